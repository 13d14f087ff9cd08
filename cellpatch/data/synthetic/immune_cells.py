"""Painters of the immune cells. Numbers: our choice; a small lymphocyte measures 7-10 um."""

import numpy as np

from cellpatch.data.synthetic.frame import CLUMP, FINE, Frame
from cellpatch.data.synthetic.paint import GREEN, OWN, RED, H, Paint, blank, granulocyte, haze, lymphoid, stray_membrane
from cellpatch.data.synthetic.shapes import band, chromatin, ellipse, fill, membrane, spots

MEMBRANE_OD, MEMBRANE_SPREAD = 0.40, 0.55  # median peak and log-sd: one in eight is below 0.2 OD, barely positive
_STRONGEST_OD = 1.1


def lymphocyte(frame: Frame) -> Paint:
    """Small round dark nucleus in a thin rim of cytoplasm; no membrane of its own, but often a stray one."""
    planes, radius = lymphoid(frame)
    if frame.chance(0.40):
        stray_membrane(frame, planes, radius + 0.8, radius + 0.8)
    return planes, fill(ellipse(frame, radius + 1, radius + 1), 1.0)


def red_membrane(frame: Frame) -> Paint:
    """Lymphoid cell with a red ring."""
    return _positive(frame, RED)


def green_membrane(frame: Frame) -> Paint:
    """Lymphoid cell with a green ring."""
    return _positive(frame, GREEN)


def double_membrane(frame: Frame) -> Paint:
    """Lymphoid cell with both rings, each of its own strength: dark plum where both are strong."""
    return _positive(frame, RED, GREEN)


def macrophage(frame: Frame) -> Paint:
    """Bean-shaped pale nucleus, off the centre of a large foamy cell; a small one has little foam."""
    planes, scale = blank(frame), frame.traits.size
    foamy = frame.chance(0.6)
    a, b = (6.0, 5.0) if foamy else (5.0, 3.8)
    body = fill(ellipse(frame, frame.draw(a, 0.12) * scale, frame.draw(b, 0.12) * scale), 1.2)
    foam = np.clip(1 + np.float32(0.9 if foamy else 0.4) * frame.texture(CLUMP), 0, 2.2) * body
    planes[H] += np.float32(frame.draw(0.09, 0.4)) * foam
    planes[OWN] += np.float32(frame.draw(0.05, 0.5)) * foam
    haze(frame, planes, body, 1.8)
    u0, v0 = frame.rng.normal(0, 0.9, 2)
    a, b = frame.draw(3.5, 0.12) * scale, frame.draw(2.3, 0.13) * scale
    outline = ellipse(frame, a, b, u0, v0)
    if frame.chance(0.65):
        np.maximum(outline, -ellipse(frame, 1.9, frame.draw(1.3, 0.25), u0=u0, v0=v0 + b), out=outline)
    planes[H] += chromatin(frame, outline, frame.draw(0.36, 0.25), 0.36, 0.14)
    if frame.chance(0.2):  # lipofuscin or haemosiderin
        planes[OWN] += np.float32(0.4) * spots(frame, int(frame.rng.integers(2, 7)), 4.0, 0.45)
    if frame.chance(0.25):
        stray_membrane(frame, planes, 5.5, 4.5)
    return planes, body


def plasma_cell(frame: Frame) -> Paint:
    """Round eccentric nucleus, rim clumps (clock face) if well cut, basophilic cytoplasm with a pale hof."""
    planes, scale = blank(frame), frame.traits.size
    shift = frame.draw(1.2, 0.4)
    cell = ellipse(frame, frame.draw(4.7, 0.1) * scale, frame.draw(3.7, 0.1) * scale, u0=-shift)
    body = fill(cell, 0.8)
    planes[H] += np.float32(frame.draw(0.15, 0.4)) * body
    planes[OWN] += np.float32(0.04) * body
    haze(frame, planes, body, 1.5)
    hof = np.float32(frame.rng.uniform(0.0, 0.7)) * fill(ellipse(frame, 1.4, 1.6, u0=-shift - 1.6), 1.0)
    planes *= 1 - hof
    radius = frame.draw(2.75, 0.1) * scale
    outline = ellipse(frame, radius, radius * 0.94, u0=0.4)
    planes[H] += chromatin(frame, outline, frame.draw(0.48, 0.2), 0.36, 0.04)
    if frame.chance(0.6):
        around = np.arctan2(frame.v, frame.u - np.float32(0.4)) + np.float32(0.45) * frame.texture(CLUMP)
        clock = np.maximum(np.cos(float(frame.rng.integers(5, 9)) * around), 0) * band(outline + np.float32(0.7), 0.45)
        planes[H] += np.float32(frame.draw(0.35, 0.35) * frame.traits.contrast) * clock
    if frame.chance(0.30):
        stray_membrane(frame, planes, 4.4, 3.6)
    return planes, body


def neutrophil(frame: Frame) -> Paint:
    """Two to four dense lobes in an arc, more or less spread out, in pale cytoplasm."""
    lobes = int(frame.rng.choice([2, 3, 3, 4]))
    return granulocyte(frame, lobes, frame.draw(1.35, 0.12), frame.draw(1.4, 0.18), frame.draw(0.03, 0.5))


def eosinophil(frame: Frame) -> Paint:
    """Two lobes, or one as cut, among granules that absorb by themselves and bind chromogen."""
    lobes = int(frame.rng.choice([1, 2, 2, 2, 3]))
    spread_um = 0.6 if lobes == 1 else frame.draw(1.5, 0.2)
    return granulocyte(frame, lobes, frame.draw(1.65, 0.12), spread_um, frame.draw(0.13, 0.45))


def _positive(frame: Frame, *colours: int) -> Paint:
    """Paint a lymphoid cell with a membrane of each colour: one outline, each its own strength and gaps."""
    planes, radius = lymphoid(frame)
    cell = ellipse(frame, radius + frame.draw(0.9, 0.25), radius + frame.draw(0.8, 0.25))
    complete = frame.rng.uniform(0.35, 1.0)
    body = fill(cell, 1.0)
    for colour in colours:
        trait = frame.traits.red_level if colour == RED else frame.traits.green_level
        level = min(frame.draw(MEMBRANE_OD, MEMBRANE_SPREAD) * trait, _STRONGEST_OD)
        planes[colour] += membrane(frame, cell, level, complete)
        planes[colour] += np.float32(0.12 * level) * np.maximum(1 + frame.texture(FINE), 0) * body
    if len(colours) == 1 and frame.chance(0.25):
        stray_membrane(frame, planes, radius + 0.9, radius + 0.9)
    return planes, body
