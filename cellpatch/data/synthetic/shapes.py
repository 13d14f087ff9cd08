"""Outlines and parts of a cell, drawn in a frame. Lengths in um, densities in OD; all numbers are our choice."""

import numpy as np

from cellpatch.data.synthetic.frame import CLUMP, FINE, SHAPE, Frame
from cellpatch.data.synthetic.stains import Floats


def ellipse(frame: Frame, a: float, b: float, u0: float = 0.0, v0: float = 0.0) -> Floats:
    """Return a rough signed distance (um, < 0 inside) to an ellipse of half axes a (u) and b (v)."""
    distance: Floats = np.hypot((frame.u - np.float32(u0)) / np.float32(a), (frame.v - np.float32(v0)) / np.float32(b))
    distance -= 1
    distance *= np.float32(min(a, b))
    return distance


def capsule(frame: Frame, a: float, b: float, bend: float = 0.0) -> Floats:
    """Return the signed distance (um) to a rod, half length a, half width b, bent as v = bend * u^2."""
    v = frame.v - np.float32(bend) * frame.u * frame.u if bend else frame.v
    distance: Floats = np.hypot(np.maximum(np.abs(frame.u) - np.float32(a - b), 0), v)
    distance -= np.float32(b)
    return distance


def fill(distance: Floats, soft: float = 0.5) -> Floats:
    """Return 1 inside, 0 outside, linear over `soft` um across the outline."""
    mask: Floats = np.float32(0.5) - distance / np.float32(soft)
    return np.clip(mask, 0, 1, out=mask)


def band(distance: Floats, width: float) -> Floats:
    """Return a Gaussian band of sd `width` um along the outline, 1 on it."""
    z: Floats = distance / np.float32(width)
    z *= z
    z *= np.float32(-0.5)
    return np.exp(z, out=z)


def chromatin(frame: Frame, distance: Floats, density: float, clump: float, rim: float, fine: float = 0.15) -> Floats:
    """Return the haematoxylin of the outlined nucleus: mean OD, contrast of clumps and fine grain, rim OD."""
    traits = frame.traits
    tone = np.float32(clump * traits.contrast) * frame.texture(CLUMP)
    tone += np.float32(fine * traits.contrast) * frame.texture(FINE)
    tone += 1
    np.maximum(tone, np.float32(0.15), out=tone)
    tone *= fill(distance)
    tone *= np.float32(density * traits.chromatin)
    if rim:
        tone += np.float32(rim * traits.chromatin) * band(distance + np.float32(0.25), 0.3)
    return tone


def spots(frame: Frame, count: int, reach: float, radius: float) -> Floats:
    """Return `count` round spots (peak 1, sd about `radius` um) scattered within `reach` um of the centre."""
    total = np.zeros_like(frame.u)
    for u0, v0 in frame.rng.uniform(-reach, reach, (count, 2)):
        total += band(
            np.hypot(frame.u - np.float32(u0), frame.v - np.float32(v0)), radius * frame.rng.uniform(0.7, 1.3)
        )
    return total


def membrane(frame: Frame, distance: Floats, level: float, complete: float) -> Floats:
    """Return the chromogen on an outline: peak OD `level`, in arcs over roughly `complete` of it."""
    width = frame.draw(0.42, 0.25)
    arc = np.float32(0.9) * frame.texture(SHAPE)
    arc += np.float32(0.35) * frame.texture(CLUMP)
    arc += np.float32(2.6 * complete - 0.8)
    np.clip(arc, 0.04, 1.25, out=arc)
    arc *= band(distance, width)
    arc *= np.float32(level)
    return arc
