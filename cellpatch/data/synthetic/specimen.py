"""Render specimens: lay out, paint, photograph, cut; one at a time or as a stream over processes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cellpatch.data.synthetic.camera import Camera, UInts, draw_camera, photograph
from cellpatch.data.synthetic.cells import PAINTERS
from cellpatch.data.synthetic.frame import Traits, draw_bank, draw_traits, open_frame
from cellpatch.data.synthetic.ground import paint_ground, paste
from cellpatch.data.synthetic.plan import CLASSES, plan_counts
from cellpatch.data.synthetic.stains import Floats, Staining, draw_staining
from cellpatch.data.synthetic.tissue import Layout, lay_out
from cellpatch.runtime.parallel import ordered_parallel_map

Ints = NDArray[np.int64]
Cut = tuple[UInts, Ints, Ints, Ints]

FIELD_CELLS = 1_000  # a larger specimen becomes several fields side by side, so memory stays bounded (ours)
FINEST_UM_PER_PX, COARSEST_UM_PER_PX = 0.2, 1.0  # finer, a tumour nest outgrows the bank of textures
CLICK_SD_UM = 0.40  # a human's click misses the centre by 1-3 px at 0.25 um/px (ours)
CLICK_MAX_UM = 0.75
COVER = np.float32(0.5)  # what lies under a cell shows half through: a section is thinner than a cell (ours)


def render_specimen(
    counts: Ints, seed: int, index: int, crop_px: int = 40, margin_px: int = 13, um_per_px: float = 0.25
) -> Cut:
    """Render one specimen and cut its annotated cells.

    `counts` is int [16], cells per class; `index` is the specimen's number. Returns crops uint8 [n, S, S, 3]
    with S = crop_px + 2 * margin_px, labels int64 [n] (index into CLASSES), and x, y int64 [n], the clicked
    centre in px of the specimen (pixel S // 2 of the crop), all in random order. Depends on the arguments
    alone. Raises ValueError on counts of another shape, negative, or all zero, on a negative `seed` or
    `index`, an empty crop, or `um_per_px` outside 0.2..1.0.
    """
    counts = np.asarray(counts, np.int64)
    _check(counts, seed, index, crop_px, margin_px, um_per_px)
    rng = np.random.default_rng([seed, index])
    traits, staining, camera = draw_traits(rng), draw_staining(rng), draw_camera(rng)
    bank = draw_bank(rng, um_per_px)
    parts, left = [], 0
    for field_counts in _share_fields(counts):
        layout = lay_out(field_counts, (crop_px / 2 + margin_px + 2) * um_per_px + CLICK_MAX_UM, rng)
        field = _render_field(layout, traits, staining, camera, bank, um_per_px, rng)
        crops, labels, x, y = _cut(field, layout, crop_px + 2 * margin_px, um_per_px, rng)
        parts.append((crops, labels, x + left, y))
        left += field.shape[1]
    crops, labels, x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = rng.permutation(len(labels))
    return crops[order], labels[order], x[order], y[order]


def render(
    cells: int,
    specimens: int,
    seed: int,
    workers: int = 2,
    crop_px: int = 40,
    margin_px: int = 13,
    um_per_px: float = 0.25,
) -> Iterator[tuple[int, UInts, Ints, Ints, Ints]]:
    """Yield (index, crops, labels, x, y) of every specimen, in order of index, as `render_specimen` returns
    them.

    The bytes do not depend on `workers`: 0 and 1 render in this process, more in a pool of that many. At most
    2 * workers specimens wait in memory. Raises ValueError as `plan_counts` does, or if `workers` is
    negative.
    """
    if workers < 0:
        raise ValueError(f"Expected argument `workers` to be >= 0, but got {workers}")
    plan = plan_counts(cells, specimens, seed)
    _check(plan[0], seed, 0, crop_px, margin_px, um_per_px)
    tasks = ((counts, seed, index, crop_px, margin_px, um_per_px) for index, counts in enumerate(plan))
    return ordered_parallel_map(_render, tasks, workers)


def _render(task: tuple[Ints, int, int, int, int, float]) -> tuple[int, UInts, Ints, Ints, Ints]:
    return (task[2], *render_specimen(*task))


def _share_fields(counts: Ints) -> list[Ints]:
    """Split counts [16] evenly into fields of at most about FIELD_CELLS cells."""
    fields = -(-int(counts.sum()) // FIELD_CELLS)
    edges = np.linspace(0, counts, fields + 1).round().astype(np.int64)
    return list(np.diff(edges, axis=0))


def _render_field(
    layout: Layout,
    traits: Traits,
    staining: Staining,
    camera: Camera,
    bank: Floats,
    um_per_px: float,
    rng: np.random.Generator,
) -> UInts:
    """Paint the ground, then the cells in random order, and photograph the field; uint8 [h, w, 3]."""
    planes = paint_ground(layout, traits, bank, um_per_px, rng)
    for i in rng.permutation(len(layout.label)):
        painter, half_um, warp_um = PAINTERS[layout.label[i]]
        half = int(np.ceil(half_um * traits.size / um_per_px))
        frame = open_frame(half, layout.angle[i], warp_um, um_per_px, traits, bank, rng)
        own, cover = painter(frame)
        x, y = layout.xy[i]
        paste(planes, own, COVER * cover, x, y, um_per_px)
    return photograph(planes, staining, camera, um_per_px, rng)


def _cut(field: UInts, layout: Layout, side: int, um_per_px: float, rng: np.random.Generator) -> Cut:
    """Cut a crop around each annotated cell, off its centre as a human click is."""
    xy = layout.xy[layout.annotated]
    click = np.clip(rng.normal(0, CLICK_SD_UM, xy.shape), -CLICK_MAX_UM, CLICK_MAX_UM)
    centre = np.rint((xy + click) / um_per_px).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(field, (side, side), axis=(0, 1))
    x, y = centre[:, 0], centre[:, 1]
    crops = windows[y - side // 2, x - side // 2].transpose(0, 2, 3, 1)
    return np.ascontiguousarray(crops), layout.label[layout.annotated], x, y


def _check(counts: Ints, seed: int, index: int, crop_px: int, margin_px: int, um_per_px: float) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"Expected arguments `seed` and `index` to be >= 0, but got {seed} and {index}")
    if counts.shape != (len(CLASSES),) or counts.min() < 0 or counts.sum() == 0:
        raise ValueError(f"Expected argument `counts` to be {len(CLASSES)} numbers >= 0, not all 0, but got {counts}")
    if crop_px < 1 or margin_px < 0:
        raise ValueError(f"Expected `crop_px` >= 1 and `margin_px` >= 0, but got {crop_px} and {margin_px}")
    if not FINEST_UM_PER_PX <= um_per_px <= COARSEST_UM_PER_PX:
        raise ValueError(
            f"Expected argument `um_per_px` to be in {FINEST_UM_PER_PX}..{COARSEST_UM_PER_PX}, but got {um_per_px}"
        )
