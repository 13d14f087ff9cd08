"""Parts that several painters use: blank stain planes, haze, stray membrane, nuclei. Numbers: our choice."""

import numpy as np

from cellpatch.data.synthetic.frame import CLUMP, FINE, Frame
from cellpatch.data.synthetic.shapes import chromatin, ellipse, fill, membrane
from cellpatch.data.synthetic.stains import Floats

H, RED, GREEN, OWN = range(4)  # the order of stains.STAINS
Paint = tuple[Floats, Floats]  # stain planes [4, n, n] in OD, and the cover [n, n] in 0..1 that hides the ground below


def blank(frame: Frame) -> Floats:
    """Return empty stain planes, float32 [4, n, n]."""
    return np.zeros((4, *frame.u.shape), np.float32)


def haze(frame: Frame, planes: Floats, where: Floats, affinity: float) -> None:
    """Add granular chromogen inside `where`: `affinity` times the specimen's background of each colour."""
    red, green = frame.draw(affinity, 0.3), frame.draw(affinity, 0.3)
    grain = np.maximum(1 + np.float32(0.45) * frame.texture(CLUMP), 0) * where
    planes[RED] += np.float32(red * frame.traits.background_red) * grain
    planes[GREEN] += np.float32(green * frame.traits.background_green) * grain


def stray_membrane(frame: Frame, planes: Floats, a: float, b: float) -> None:
    """Add a weak or one-sided arc of chromogen that is not the cell's own: a neighbour's, or background."""
    colour = RED if frame.chance(0.5) else GREEN
    arc = membrane(frame, ellipse(frame, a, b), frame.draw(0.30, 0.5), 0.7)
    if frame.chance(0.75):
        side = frame.rng.uniform(-np.pi, np.pi)
        along = frame.u * np.float32(np.cos(side)) + frame.v * np.float32(np.sin(side))
        arc *= np.clip(along / np.float32(0.8 * a), 0, 1)
    else:
        arc *= np.float32(0.45)
    planes[colour] += arc


def lymphoid(frame: Frame) -> tuple[Floats, float]:
    """Return the planes of a lymphocyte without its membrane, and the radius of its nucleus in um."""
    planes = blank(frame)
    activated = frame.chance(0.22)
    radius = frame.draw(3.4 if activated else 2.8, 0.10) * frame.traits.size
    outline = ellipse(frame, radius * frame.draw(1.12, 0.09), radius * 0.97)
    body = fill(ellipse(frame, radius + 0.9, radius + 0.8), 0.8)
    planes[H] += np.float32(frame.draw(0.07, 0.4)) * body
    haze(frame, planes, body, 1.0)
    density, clump, rim = (0.36, 0.40, 0.12) if activated else (0.55, 0.42, 0.05)
    planes[H] += chromatin(frame, outline, frame.draw(density, 0.22), clump, rim)
    return planes, radius


def granulocyte(frame: Frame, lobes: int, lobe_um: float, spread_um: float, granules: float) -> Paint:
    """Paint lobes of radius `lobe_um` on an arc of radius `spread_um` amid granules of that mean OD."""
    planes, scale = blank(frame), frame.traits.size
    cell = frame.draw(4.1, 0.1) * scale
    body = fill(ellipse(frame, cell, cell * 0.93), 0.7)
    planes[H] += np.float32(frame.draw(0.06, 0.5)) * body
    grain = np.maximum(1 + np.float32(0.8) * frame.texture(FINE), 0) * body
    planes[OWN] += np.float32(granules) * grain
    planes[RED] += np.float32(0.3 * granules) * grain
    haze(frame, planes, body, 0.8)
    start, step = frame.rng.uniform(0, 2 * np.pi), frame.rng.uniform(1.0, 1.9)
    nucleus = np.zeros_like(frame.u)
    for lobe in range(lobes):
        angle = start + step * lobe
        size = lobe_um * frame.draw(1.0, 0.12)
        outline = ellipse(frame, size, size * 0.9, spread_um * np.cos(angle), spread_um * np.sin(angle))
        np.maximum(nucleus, chromatin(frame, outline, frame.draw(0.66, 0.15), 0.2, 0.0, 0.08), out=nucleus)
    planes[H] += nucleus
    return planes, body
