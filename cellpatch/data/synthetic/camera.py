"""Microscope, scanner and file: concentrations to an 8-bit JPEG field. Every range is our choice."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cellpatch.data.synthetic.hospitals import HOSPITALS, Hospital
from cellpatch.data.synthetic.stains import Floats, Staining, transmit

UInts = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """One specimen's scan: focus, soft patches (Gaussian sd in um), white point, noise and JPEG settings."""

    focus_um: float
    soft_um: float
    white: tuple[float, float, float]
    shade: tuple[float, float]
    electrons: float
    read: float
    quality: int
    subsampling: int


def draw_camera(rng: np.random.Generator, hospital: Hospital = HOSPITALS["a"]) -> Camera:
    """Draw one specimen's scan; about one in five is clearly soft."""
    sharp, clearly_soft = hospital.focus_um
    focus = float(rng.uniform(*clearly_soft)) if rng.random() < 1 / 5 else float(rng.uniform(*sharp))
    red, green, blue = (float(level) for level in rng.uniform(*np.transpose(hospital.white)))
    return Camera(
        focus_um=focus,
        soft_um=float(rng.uniform(0.2, 0.8)),
        white=(red, green, blue),
        shade=(float(rng.uniform(-0.03, 0.03)), float(rng.uniform(-0.03, 0.03))),
        electrons=float(rng.uniform(2_000, 12_000)),
        read=float(rng.uniform(0.002, 0.006)),
        quality=int(rng.integers(*hospital.quality)),
        subsampling=int(rng.choice([0, 2])),
    )


def photograph(
    concentration: Floats, staining: Staining, camera: Camera, um_per_px: float, rng: np.random.Generator
) -> UInts:
    """Return the field as uint8 [h, w, 3] after focus, illumination, shot and read noise, and JPEG.

    `concentration` is float32 [4, h, w] in OD. Shot noise has the variance of the light in electrons of a
    full well.
    """
    h, w = concentration.shape[1:]
    tilt = 1 + np.float32(camera.shade[0]) * np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    tilt = tilt + np.float32(camera.shade[1]) * np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    soft = _soft_patches(h, w, rng)
    field = np.empty((h, w, 3), np.uint8)
    for channel in range(3):
        light = transmit(concentration, staining, channel)
        light = gaussian_filter(light, camera.focus_um / um_per_px, truncate=3, mode="nearest")
        softer = gaussian_filter(light, camera.soft_um / um_per_px, truncate=3, mode="nearest")
        softer -= light
        softer *= soft
        light += softer
        light *= tilt
        light *= np.float32(camera.white[channel])
        sd = np.sqrt(light / np.float32(camera.electrons) + np.float32(camera.read**2))
        sd *= rng.standard_normal((h, w), np.float32)
        light += sd
        light *= 255
        light += 0.5
        field[..., channel] = np.clip(light, 0, 255, out=light)
    return jpeg(field, camera.quality, camera.subsampling)


def jpeg(field: UInts, quality: int, subsampling: int) -> UInts:
    """Return uint8 [h, w, 3] as a JPEG of that quality gives it back (subsampling 0 is 4:4:4, 2 is 4:2:0)."""
    buffer = io.BytesIO()
    Image.fromarray(field).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(buffer))


def _soft_patches(h: int, w: int, rng: np.random.Generator) -> Floats:
    """Return a smooth map 0..1 of where the field leaves the focal plane: bilinear between random knots."""
    knots = rng.uniform(-0.6, 1.0, (5, 5)).astype(np.float32)
    y, x = np.linspace(0, 3.999, h), np.linspace(0, 3.999, w)
    rows = _between(knots, y)
    patches = _between(rows.T, x).T
    return np.maximum(patches, 0).astype(np.float32)


def _between(knots: Floats, at: NDArray[np.float64]) -> Floats:
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)[:, None]
    mixed: Floats = knots[low] * (1 - share) + knots[low + 1] * share
    return mixed
