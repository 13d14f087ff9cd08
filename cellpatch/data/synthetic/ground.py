"""The ground below the cells: collagen, epithelium, lumens, muscle. OD per stain, lengths in um; all our choice."""

import numpy as np
from scipy.ndimage import zoom

from cellpatch.data.synthetic.frame import BANK_PX, CLUMP, FINE, SpecimenStyle, open_frame
from cellpatch.data.synthetic.paint import GREEN, OWN, RED, H
from cellpatch.data.synthetic.shapes import band, ellipse, fill
from cellpatch.data.synthetic.stains import Floats
from cellpatch.data.synthetic.structures import GLAND, MUSCLE, NEST, WALL, Structure
from cellpatch.data.synthetic.tissue import Layout


def paint_ground(layout: Layout, style: SpecimenStyle, rng: np.random.Generator) -> Floats:
    """Return the ground's stain planes, float32 [4, h, h] in OD."""
    side = int(np.ceil(layout.side / style.um_per_px))
    planes = _collagen(side, layout.flow, style, rng)
    grain = _tiled(style.bank[CLUMP], side)
    planes[RED] += np.float32(style.traits.background_red) * np.maximum(0.35 + 0.25 * grain, 0)
    planes[GREEN] += np.float32(style.traits.background_green) * np.maximum(0.35 - 0.25 * grain, 0)
    for structure in layout.structures:
        _paint_structure(planes, structure, style, rng)
    return planes


def _collagen(side: int, flow: float, style: SpecimenStyle, rng: np.random.Generator) -> Floats:
    """Return wavy fibres, the sine of a phase that runs across `flow`, bent by smooth noise, with gaps."""
    step_px = max(round(8 / style.um_per_px), 1)
    coarse = rng.standard_normal((2, side // step_px + 4, side // step_px + 4)).astype(np.float32)
    bend, dense = (zoom(noise, step_px, order=1, grid_mode=True, mode="nearest")[:side, :side] for noise in coarse)
    line = np.arange(side, dtype=np.float32) * np.float32(style.um_per_px)
    across = np.float32(np.cos(flow)) * line[:, None] - np.float32(np.sin(flow)) * line[None, :]
    fine = _tiled(style.bank[FINE], side)
    fibre = np.sin(across * np.float32(1.1) + np.float32(2.2) * bend + np.float32(0.5) * fine)
    fibre *= np.float32(0.45)
    fibre += 1
    dense *= np.float32(0.45)
    dense += np.float32(0.75)
    fibre *= np.clip(dense, 0.05, 1.4, out=dense)
    planes = np.zeros((4, side, side), np.float32)
    planes[H] = np.float32(0.055) * fibre
    planes[OWN] = np.float32(0.035) * fibre
    return planes


def _paint_structure(planes: Floats, s: Structure, style: SpecimenStyle, rng: np.random.Generator) -> None:
    """Replace the collagen under one structure by its own ground."""
    half = min(int(s.a / style.um_per_px) + 12, BANK_PX // 2 - 1)
    frame = open_frame(half, s.angle, 0.4 if s.tissue == MUSCLE else 0.8, style, rng)
    outline = ellipse(frame, s.a, s.b)
    own = np.zeros((4, *outline.shape), np.float32)
    texture = 1 + np.float32(0.3) * frame.texture(CLUMP)
    body = fill(outline, 1.0)
    if s.tissue in (GLAND, NEST):
        own[H] = np.float32(0.09 if s.tissue == NEST else 0.06) * body * texture
        own[OWN] = np.float32(0.045) * body
        if s.tissue == GLAND:  # basement membrane
            own[H] += np.float32(0.05) * band(outline, 0.5)
    if s.tissue == MUSCLE:
        stripes = np.sin(np.float32(1.9) * frame.v + np.float32(0.5) * frame.texture(CLUMP))
        own[H] = np.float32(0.07) * body * (1 + np.float32(0.3) * stripes)
        own[OWN] = np.float32(0.045) * body * (1 + np.float32(0.4) * stripes)
    if s.hole:
        lumen = fill(ellipse(frame, s.a * s.hole, s.b * s.hole), 0.8)
        own *= 1 - lumen
        own[H] += np.float32(0.02 if s.tissue == WALL else rng.uniform(0.0, 0.08)) * lumen * texture
        if s.tissue == NEST or s.tissue == GLAND:  # glycocalyx and its stray chromogen on the cells' free side
            rim = band(ellipse(frame, s.a * s.hole, s.b * s.hole), 0.5)
            own[H] += np.float32(0.06) * rim
            own[RED] += np.float32(2.0 * style.traits.background_red) * rim
            own[GREEN] += np.float32(2.0 * style.traits.background_green) * rim
    paste(planes, own, body, s.x, s.y, style.um_per_px)


def paste(planes: Floats, own: Floats, cover: Floats, x: float, y: float, um_per_px: float) -> None:
    """Paint `own` [4, n, n], centred at (x, y) um, over `planes`, which fade by `cover` (0..1)."""
    half, side = cover.shape[0] // 2, planes.shape[1]
    left, top = round(x / um_per_px) - half, round(y / um_per_px) - half
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + 2 * half + 1, side), min(top + 2 * half + 1, side)
    window = planes[:, y0:y1, x0:x1]
    rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    window *= 1 - cover[rows, columns]
    window += own[:, rows, columns]


def _tiled(texture: Floats, side: int) -> Floats:
    """Repeat a periodic texture over [side, side]."""
    reps = side // BANK_PX + 1
    return np.tile(texture, (reps, reps))[:side, :side]
