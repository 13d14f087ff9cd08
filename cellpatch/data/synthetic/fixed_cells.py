"""Painters of the cells that build the tissue: epithelium, tumour, stroma, vessel, muscle. Numbers: our choice."""

import numpy as np

from cellpatch.data.synthetic.frame import SHAPE, Frame
from cellpatch.data.synthetic.paint import OWN, H, Paint, blank, haze, stray_membrane
from cellpatch.data.synthetic.shapes import band, capsule, chromatin, ellipse, fill, spots


def adenocarcinoma(frame: Frame) -> Paint:
    """Large irregular nucleus, vesicular with nucleoli, or dark; if low-grade, small, smooth and long."""
    planes, scale = blank(frame), frame.traits.size
    body = fill(ellipse(frame, 6.5, 5.0), 2.0)
    planes[H] += np.float32(frame.draw(0.09, 0.4)) * body
    planes[OWN] += np.float32(0.04) * body
    haze(frame, planes, body, 0.7)
    form = frame.rng.random()
    if form < 0.04:  # metaphase plate: a dense ragged bar
        planes[H] += chromatin(frame, ellipse(frame, 3.6, 1.2), 1.0, 0.4, 0.0)
    elif form < 0.40:  # vesicular
        outline = ellipse(frame, frame.draw(4.5, 0.15) * scale, frame.draw(3.3, 0.15) * scale)
        planes[H] += chromatin(frame, outline, frame.draw(0.34, 0.25), 0.42, 0.20)
        planes[H] += np.float32(frame.draw(0.40, 0.3)) * spots(frame, int(frame.rng.integers(0, 3)), 1.6, 0.5)
    elif form < 0.68:  # dark
        outline = ellipse(frame, frame.draw(4.3, 0.15) * scale, frame.draw(2.9, 0.15) * scale)
        planes[H] += chromatin(frame, outline, frame.draw(0.58, 0.2), 0.35, 0.08)
    else:  # low grade, like glandular epithelium but for contour and crowding
        outline = ellipse(frame, frame.draw(4.2, 0.12) * scale, frame.draw(2.5, 0.14) * scale)
        planes[H] += chromatin(frame, outline, frame.draw(0.48, 0.2), 0.28, 0.10)
    if frame.chance(0.15):
        stray_membrane(frame, planes, 6.0, 4.5)
    return planes, body


def glandular_epithelium(frame: Frame) -> Paint:
    """Smooth oval nucleus along the cell's axis with even chromatin, often a pale mucin vacuole above it."""
    planes, scale = blank(frame), frame.traits.size
    body = fill(ellipse(frame, 7.5, 3.4), 1.5)
    planes[H] += np.float32(frame.draw(0.07, 0.4)) * body
    planes[OWN] += np.float32(0.035) * body
    haze(frame, planes, body, 0.6)
    form = frame.rng.random()
    if form < 0.25:  # reactive: enlarged, open
        a, b, density, clump = 4.3, 2.9, 0.38, 0.32
    elif form < 0.40:  # cut across
        a, b, density, clump = 2.8, 2.5, 0.48, 0.28
    else:
        a, b, density, clump = 3.9, 2.2, 0.50, 0.24
    outline = ellipse(frame, frame.draw(a, 0.13) * scale, frame.draw(b, 0.13) * scale)
    planes[H] += chromatin(frame, outline, frame.draw(density, 0.22), clump, 0.09)
    if frame.chance(0.4):
        planes[H] += np.float32(0.25) * spots(frame, 1, 1.2, 0.4)
    if frame.chance(0.30):  # goblet vacuole on the lumen's side (-u): nothing but faint mucin
        vacuole = fill(ellipse(frame, 3.2, 2.6, u0=-6.2), 0.8)
        planes *= 1 - np.float32(0.85) * vacuole
        planes[H] += np.float32(0.04) * vacuole
    if frame.chance(0.12):
        stray_membrane(frame, planes, 6.5, 3.2)
    return planes, body


def stromal_cell(frame: Frame) -> Paint:
    """Spindle nucleus, thin and dark; or plump and pale; or cut across, small and round."""
    planes, scale = blank(frame), frame.traits.size
    form = frame.rng.random()
    if form < 0.35:
        outline = ellipse(frame, frame.draw(4.4, 0.15) * scale, frame.draw(2.2, 0.16) * scale)
        planes[H] += chromatin(frame, outline, frame.draw(0.35, 0.25), 0.38, 0.12)
    elif form < 0.50:
        outline = ellipse(frame, frame.draw(2.6, 0.15) * scale, frame.draw(2.1, 0.15) * scale)
        planes[H] += chromatin(frame, outline, frame.draw(0.45, 0.25), 0.35, 0.05)
    else:
        outline = ellipse(frame, frame.draw(5.3, 0.18) * scale, frame.draw(1.45, 0.2) * scale)
        planes[H] += chromatin(frame, outline, frame.draw(0.50, 0.25), 0.22, 0.0)
    body = fill(outline, 3.0)
    planes[H] += np.float32(0.04) * body
    haze(frame, planes, body, 1.0)
    if frame.chance(0.15):
        stray_membrane(frame, planes, 5.5, 2.8)
    return planes, body


def endothelial_cell(frame: Frame) -> Paint:
    """Thin nucleus bent around a vessel's lumen on its -v side; some swollen, some without a lumen."""
    planes, scale = blank(frame), frame.traits.size
    bend = -frame.draw(0.025, 0.6)
    swollen, collapsed = frame.chance(0.3), frame.chance(0.35)
    if swollen:
        outline = ellipse(frame, frame.draw(3.7, 0.12) * scale, frame.draw(1.9, 0.12) * scale)
    else:
        outline = capsule(frame, frame.draw(4.0, 0.18) * scale, frame.draw(1.05, 0.2) * scale, bend)
    wall = band(capsule(frame, 7.0, 0.3, bend), 0.4)
    planes[H] += np.float32(0.08) * wall
    haze(frame, planes, wall, 2.0)
    planes[H] += chromatin(frame, outline, frame.draw(0.38 if swollen else 0.50, 0.22), 0.30, 0.05)
    if frame.chance(0.12):
        stray_membrane(frame, planes, 5.0, 2.2)
    if collapsed:
        return planes, fill(outline, 0.8)
    gap = fill(ellipse(frame, 6.0, frame.draw(2.0, 0.3), v0=-3.2), 1.0)
    return planes, np.maximum(gap, fill(outline, 0.8))


def smooth_muscle(frame: Frame) -> Paint:
    """Long blunt nucleus among parallel fibres, or cut across."""
    planes, scale = blank(frame), frame.traits.size
    bend = frame.rng.normal(0, 0.008)
    fibre = fill(ellipse(frame, 10.0, 3.2), 3.0)
    grain = np.sin(np.float32(2.2) * frame.v + np.float32(1.5) * frame.texture(SHAPE))
    planes[OWN] += np.float32(frame.draw(0.035, 0.3)) * fibre * (1 + np.float32(0.5) * grain)
    planes[H] += np.float32(frame.draw(0.05, 0.3)) * fibre * (1 + np.float32(0.3) * grain)
    if frame.chance(0.25):
        outline = ellipse(frame, frame.draw(2.3, 0.2) * scale, frame.draw(1.7, 0.15) * scale)
    else:
        outline = capsule(frame, frame.draw(5.6, 0.2) * scale, frame.draw(1.4, 0.18) * scale, bend)
    planes[H] += chromatin(frame, outline, frame.draw(0.43, 0.25), 0.28, 0.07)
    haze(frame, planes, fibre, 0.4)
    if frame.chance(0.08):
        stray_membrane(frame, planes, 6.0, 2.2)
    return planes, fibre
