"""Painters of loose objects: red blood cells, apoptotic bodies, sites without a cell. Numbers: our choice."""

import numpy as np

from cellpatch.data.synthetic.frame import CLUMP, SHAPE, Frame
from cellpatch.data.synthetic.paint import GREEN, OWN, RED, H, Paint, blank, haze, stray_membrane
from cellpatch.data.synthetic.shapes import band, capsule, chromatin, ellipse, fill, spots


def non_cellular(frame: Frame) -> Paint:
    """No nucleus at the centre: gap, mucin, collagen, debris, chromogen precipitate, blob out of focus."""
    planes = blank(frame)
    ground = fill(ellipse(frame, frame.draw(5.5, 0.15), frame.draw(4.5, 0.15)), 2.5)
    form = frame.rng.random()
    if form < 0.12:
        return planes, ground
    if form < 0.28:  # mucin
        planes[H] += np.float32(frame.draw(0.12, 0.4)) * np.maximum(0.6 + frame.texture(SHAPE), 0) * ground
    elif form < 0.45:  # collagen, left as the ground is
        return planes, np.zeros_like(ground)
    elif form < 0.65:  # debris: nuclear dust and scraps of cytoplasm
        planes[H] += np.float32(frame.draw(0.30, 0.4)) * np.maximum(frame.texture(CLUMP) - 0.2, 0) * ground
        planes[OWN] += np.float32(frame.draw(0.03, 0.4)) * ground
        planes[H] += np.float32(frame.draw(0.5, 0.3)) * spots(frame, int(frame.rng.integers(0, 6)), 3.0, 0.6)
    elif form < 0.82:  # chromogen: precipitate or a cut strip of another cell's membrane
        colour = RED if frame.chance(0.5) else GREEN
        level = np.float32(min(frame.draw(0.4, 0.5), 1.0))
        if frame.chance(0.5):
            planes[colour] += level * spots(frame, int(frame.rng.integers(2, 9)), 4.0, 0.6)
        else:
            planes[colour] += level * band(capsule(frame, frame.draw(4.0, 0.2), 0.6, frame.rng.normal(0, 0.07)), 0.45)
        return planes, 0.5 * ground
    else:  # a cell above or below the focal plane
        blob = fill(ellipse(frame, frame.draw(3.5, 0.2), frame.draw(2.8, 0.2)), 4.0)
        planes[H] += np.float32(frame.draw(0.30, 0.3)) * blob
        haze(frame, planes, blob, 2.0)
    return planes, ground


def red_blood_cell(frame: Frame) -> Paint:
    """Disc without a nucleus, paler in the middle, coloured by haemoglobin alone; some pale or on edge."""
    planes = blank(frame)
    a = frame.draw(3.1, 0.1)
    b = a * frame.rng.uniform(0.4, 1.0)
    outline = ellipse(frame, a, b)
    disc = fill(outline, 0.5)
    pallor = 1 - np.float32(frame.rng.uniform(0.0, 0.6)) * fill(ellipse(frame, 0.6 * a, 0.6 * b), 1.2)
    planes[OWN] += np.float32(frame.draw(0.15, 0.5)) * disc * pallor
    planes[H] += np.float32(frame.draw(0.03, 0.5)) * disc
    haze(frame, planes, disc, 0.6)
    return planes, fill(outline, 1.2)


def apoptotic_body(frame: Frame) -> Paint:
    """Dense round fragments in shrunken dark cytoplasm, mostly with a clear halo."""
    planes = blank(frame)
    radius = frame.draw(2.5, 0.18)
    rest = fill(ellipse(frame, radius, radius * 0.9), 0.6)
    planes[OWN] += np.float32(frame.draw(0.10, 0.4)) * rest
    planes[H] += np.float32(frame.draw(0.16, 0.4)) * rest
    for _ in range(int(frame.rng.choice([1, 1, 2, 3, 4, 5]))):
        u0, v0 = np.clip(frame.rng.normal(0, 0.35 * radius, 2), -0.6 * radius, 0.6 * radius)
        size = frame.draw(1.0, 0.25)
        piece = chromatin(frame, ellipse(frame, size, size, u0, v0), frame.draw(0.68, 0.25), 0.05, 0.0, 0.05)
        np.maximum(planes[H], piece, out=planes[H])
    if frame.chance(0.25):
        stray_membrane(frame, planes, radius, radius)
    halo = 1.7 if frame.chance(0.6) else 0.2
    return planes, fill(ellipse(frame, radius + halo, radius + halo), 1.0)
