"""The local drawing frame of one object: warped coordinates in micrometres, and texture."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from cellpatch.data.synthetic.stains import Floats

BANK_PX = 512
GRAIN_UM = (0.22, 0.55, 2.0)  # correlation lengths: FINE chromatin, CLUMP, SHAPE of outlines (our choice)
FINE, CLUMP, SHAPE = 0, 1, 2
# Scales all differences between cells of one class. Measured at 1.3 (48,000 cells, 80 specimens, 14,223 test cells):
# macro-F1 0.32 from colour alone; small CNN 0.63 at 256 and 0.74 at 4096 training cells per class.
VARIETY = 1.3


@dataclass(frozen=True)
class Traits:
    """What all cells of one specimen share, drawn once: factors around 1 where no unit is given; all our choice."""

    size: float
    chromatin: float
    contrast: float
    red_level: float
    green_level: float
    background_red: float  # OD
    background_green: float  # OD


@dataclass(frozen=True)
class SpecimenStyle:
    """What all frames of one specimen share: traits, the noise bank float32 [3, 512, 512], the scale."""

    traits: Traits
    bank: Floats
    um_per_px: float


@dataclass(frozen=True)
class Frame:
    """Coordinates `u` (along the long axis) and `v` (across), float32 [n, n] in um from the centre."""

    u: Floats
    v: Floats
    rng: np.random.Generator
    traits: Traits
    bank: Floats

    def texture(self, grain: int) -> Floats:
        """Return a random window of unit-variance noise, a view of the bank: do not write to it."""
        n = self.u.shape[0]
        y, x = self.rng.integers(0, BANK_PX - n, 2)
        return self.bank[grain, y : y + n, x : x + n]

    def draw(self, median: float, spread: float) -> float:
        """Draw a positive number around `median` with log-sd VARIETY * `spread`, kept within 2 sd."""
        z = min(max(float(self.rng.standard_normal()), -2.0), 2.0)
        return median * float(np.exp(VARIETY * spread * z))

    def chance(self, probability: float) -> bool:
        """Return True with `probability`."""
        return bool(self.rng.random() < probability)


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw one specimen's traits."""
    size, chromatin, contrast, red, green = np.exp(rng.normal(0, [0.07, 0.20, 0.30, 0.30, 0.30]))
    haze = rng.uniform(0.0, 0.09, 2)
    return Traits(size, chromatin, contrast, red, green, haze[0], haze[1])


def draw_bank(rng: np.random.Generator, um_per_px: float) -> Floats:
    """Draw the noise that a specimen's textures are cut from: float32 [3, 512, 512], mean 0, sd 1 each."""
    bank = rng.standard_normal((3, BANK_PX, BANK_PX), np.float32)
    for noise, grain_um in zip(bank, GRAIN_UM, strict=True):
        noise[:] = gaussian_filter(noise, grain_um / um_per_px, mode="wrap", truncate=3)
        noise /= noise.std()
    return bank


def open_frame(half_px: int, angle: float, warp_um: float, style: SpecimenStyle, rng: np.random.Generator) -> Frame:
    """Return the frame of (2 * half_px + 1) pixels a side, long axis at `angle` (radians from x towards y).

    `warp_um` is the sd by which smooth noise moves the coordinates, which makes every outline drawn in them irregular.
    """
    y, x = _grid(half_px)
    c, s = np.float32(np.cos(angle) * style.um_per_px), np.float32(np.sin(angle) * style.um_per_px)
    frame = Frame(x * c + y * s, y * c - x * s, rng, style.traits, style.bank)
    if warp_um > 0:
        frame.u[:] += np.float32(warp_um) * frame.texture(SHAPE)
        frame.v[:] += np.float32(warp_um) * frame.texture(SHAPE)
    return frame


@lru_cache(maxsize=256)  # thousands of frames share a few sides
def _grid(half_px: int) -> tuple[Floats, Floats]:
    side = np.arange(-half_px, half_px + 1, dtype=np.float32)
    return side[:, None], side[None, :]
