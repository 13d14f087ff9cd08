"""Stains as optical densities: vectors, Beer-Lambert, and how they vary from specimen to specimen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellpatch.data.synthetic.hospitals import HOSPITALS, Hospital

Floats = NDArray[np.float32]

STAINS = ("haematoxylin", "red", "green", "own")
# Unit RGB optical-density vectors: haematoxylin (Ruifrok & Johnston), Fast Red and HRP-Green (Landini, Colour
# Deconvolution 2). Classes are named by colour, since either of CD103 and CD8 may be the red one; that the red is Fast
# Red is our choice. "own" is the absorption of unstained tissue (haemoglobin, eosinophil granules, lipofuscin): a
# yellow-brown of our choice, as haemoglobin's Soret band is blue light.
VECTORS: Floats = np.array(
    [[0.650, 0.704, 0.286], [0.214, 0.851, 0.478], [0.810, 0.449, 0.371], [0.150, 0.500, 0.853]], np.float32
)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)

_JITTER_DEGREES = 3.0  # our choice
_LIGHT, _STRONG = 0.05, 0.20  # gain and offset per stain, light to strong (Tellez et al., arXiv 1902.06543)
_OFFSET = 0.2  # share of that strength which becomes haze: all of it would hide weak positives (our choice)


@dataclass(frozen=True)
class Staining:
    """One specimen's stains: unit vectors float32 [4, 3], gain [4] (about 1) and offset [4] (OD, >= 0)."""

    vectors: Floats
    gain: Floats
    offset: Floats


def draw_staining(rng: np.random.Generator, hospital: Hospital = HOSPITALS["a"]) -> Staining:
    """Draw the stains of one specimen around VECTORS, with the hospital's red and gain."""
    strength = rng.uniform(_LIGHT, _STRONG)
    radians = np.deg2rad(_JITTER_DEGREES)
    nominal = VECTORS.copy()
    nominal[1] = np.array(hospital.red, np.float32) / np.linalg.norm(np.array(hospital.red, np.float32))
    vectors = np.abs(nominal + radians * rng.standard_normal(VECTORS.shape))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gain = np.array(hospital.gain) * (1 + rng.uniform(-strength, strength, 4))
    offset = rng.uniform(0, _OFFSET * strength, 4)
    return Staining(vectors.astype(np.float32), gain.astype(np.float32), offset.astype(np.float32))


def transmit(concentration: Floats, staining: Staining, channel: int) -> Floats:
    """Return the light that one colour channel lets through: Beer-Lambert, I / I0 = 10 ** -OD, in (0, 1].

    `concentration` is float32 [4, h, w] in OD along each stain's unit vector; `channel` is 0, 1 or 2 for R,
    G, B.
    """
    vector = staining.vectors[:, channel]
    weight = staining.gain * vector
    density = np.full(concentration.shape[1:], float(staining.offset @ vector), np.float32)
    for stain, factor in zip(concentration, weight, strict=True):
        density += factor * stain
    density *= np.float32(-np.log(10))
    return np.exp(density, out=density)


def optical_density(crops: NDArray[np.uint8]) -> Floats:
    """Return -log10 of uint8 crops [..., 3] against white 255; a black pixel counts as 1/255, so 0..2.41."""
    density: Floats = -np.log10(np.maximum(crops, 1).astype(np.float32) / 255)
    return density


def unmix(crops: NDArray[np.uint8]) -> Floats:
    """Return OD of haematoxylin, red, green, float32 [..., 3], by inverting the nominal vectors."""
    amounts: Floats = optical_density(crops) @ np.linalg.inv(VECTORS[:3])
    return amounts
