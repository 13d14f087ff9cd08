"""Render specimens: lay out, paint, photograph, cut; one at a time, or many on several processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellpatch.data.synthetic.camera import UInts, draw_camera, photograph
from cellpatch.data.synthetic.cell_counts import CLASSES, plan_counts
from cellpatch.data.synthetic.cells import PAINTERS
from cellpatch.data.synthetic.frame import SpecimenStyle, draw_bank, draw_traits, open_frame
from cellpatch.data.synthetic.ground import paint_ground, paste
from cellpatch.data.synthetic.hospitals import HOSPITALS, Hospital
from cellpatch.data.synthetic.stains import Floats, draw_staining
from cellpatch.data.synthetic.tissue import Layout, lay_out
from cellpatch.runtime.parallel import ordered_parallel_map

Ints = NDArray[np.int64]
Cut = tuple[UInts, Ints, Ints, Ints]

FIELD_CELLS = 1_000  # a larger specimen becomes several fields side by side, so memory stays bounded (our choice)
FINEST_UM_PER_PX, COARSEST_UM_PER_PX = 0.2, 1.0  # below 0.2, a tumour nest is larger than the noise bank
CLICK_SD_UM = 0.40  # a human's click misses the centre by 1-3 px at 0.25 um/px (our choice)
CLICK_MAX_UM = 0.75
COVER = np.float32(0.5)  # the ground below a cell shows half through: a section is thinner than a cell (our choice)


@dataclass(frozen=True)
class CropSize:
    """Side of a rendered crop, the margin around it on each side, and the scale.

    Raises ValueError on an empty crop or `um_per_px` outside 0.2..1.0.
    """

    crop_px: int = 40
    margin_px: int = 13
    um_per_px: float = 0.25

    def __post_init__(self) -> None:
        if self.crop_px < 1 or self.margin_px < 0:
            raise ValueError(
                f"Expected `crop_px` >= 1 and `margin_px` >= 0, but got {self.crop_px} and {self.margin_px}"
            )
        if not FINEST_UM_PER_PX <= self.um_per_px <= COARSEST_UM_PER_PX:
            raise ValueError(
                f"Expected argument `um_per_px` to be in {FINEST_UM_PER_PX}..{COARSEST_UM_PER_PX}, "
                f"but got {self.um_per_px}"
            )

    @property
    def side_px(self) -> int:
        """Side of the crop with its margin."""
        return self.crop_px + 2 * self.margin_px


DEFAULT_SIZE = CropSize()


def render_specimen(
    counts: Ints, seed: int, index: int, size: CropSize = DEFAULT_SIZE, hospital: Hospital = HOSPITALS["a"]
) -> Cut:
    """Render one specimen and cut its annotated cells.

    `counts` is int [16], cells per class; `index` is the specimen's number. Returns crops uint8 [n, S, S, 3] with
    S = size.side_px, labels int64 [n] (index into CLASSES), and x, y int64 [n], all in random order. x and y are the
    clicked centre in px of the specimen (pixel S // 2 of the crop). The result depends on the arguments alone. Raises
    ValueError on counts of another shape, negative, or all zero, and on a negative `seed` or `index`.
    """
    counts = np.asarray(counts, np.int64)
    _check(counts, seed, index)
    rng = np.random.default_rng([seed, index])
    traits, staining, camera = draw_traits(rng), draw_staining(rng, hospital), draw_camera(rng, hospital)
    style = SpecimenStyle(traits, draw_bank(rng, size.um_per_px), size.um_per_px)
    parts, left = [], 0
    for field_counts in _share_fields(counts):
        border_um = (size.crop_px / 2 + size.margin_px + 2) * size.um_per_px + CLICK_MAX_UM
        layout = lay_out(field_counts, border_um, rng)
        field = photograph(paint_field(layout, style, rng), staining, camera, size.um_per_px, rng)
        crops, labels, x, y = _cut(field, layout, size, rng)
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
    size: CropSize = DEFAULT_SIZE,
    hospital: Hospital = HOSPITALS["a"],
) -> Iterator[tuple[int, UInts, Ints, Ints, Ints]]:
    """Yield (index, crops, labels, x, y) of every specimen in order, as `render_specimen` returns them.

    The bytes do not depend on `workers`: 0 and 1 render in this process, more in a pool of that many. At most
    2 * workers specimens wait in memory. Raises ValueError as `plan_counts` does, or if `workers` is negative.
    """
    if workers < 0:
        raise ValueError(f"Expected argument `workers` to be >= 0, but got {workers}")
    planned = enumerate(plan_counts(cells, specimens, seed))
    tasks = ((counts, seed, index, size, hospital) for index, counts in planned)
    return ordered_parallel_map(_render, tasks, workers)


def _render(task: tuple[Ints, int, int, CropSize, Hospital]) -> tuple[int, UInts, Ints, Ints, Ints]:
    return (task[2], *render_specimen(*task))


def _share_fields(counts: Ints) -> list[Ints]:
    """Split counts [16] evenly into fields of at most about FIELD_CELLS cells."""
    fields = -(-int(counts.sum()) // FIELD_CELLS)
    edges = np.linspace(0, counts, fields + 1).round().astype(np.int64)
    return list(np.diff(edges, axis=0))


def paint_field(layout: Layout, style: SpecimenStyle, rng: np.random.Generator) -> Floats:
    """Paint the ground, then the cells in random order; stain planes float32 [4, h, w] in OD."""
    planes = paint_ground(layout, style, rng)
    for i in rng.permutation(len(layout.label)):
        painter, half_um, warp_um = PAINTERS[layout.label[i]]
        half_px = int(np.ceil(half_um * style.traits.size / style.um_per_px))
        own, cover = painter(open_frame(half_px, layout.angle[i], warp_um, style, rng))
        x, y = layout.xy[i]
        paste(planes, own, COVER * cover, x, y, style.um_per_px)
    return planes


def _cut(field: UInts, layout: Layout, size: CropSize, rng: np.random.Generator) -> Cut:
    """Cut a crop around each annotated cell, off its centre as a human click is."""
    xy = layout.xy[layout.annotated]
    click = np.clip(rng.normal(0, CLICK_SD_UM, xy.shape), -CLICK_MAX_UM, CLICK_MAX_UM)
    centre = np.rint((xy + click) / size.um_per_px).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(field, (size.side_px, size.side_px), axis=(0, 1))
    x, y = centre[:, 0], centre[:, 1]
    crops = windows[y - size.side_px // 2, x - size.side_px // 2].transpose(0, 2, 3, 1)
    return np.ascontiguousarray(crops), layout.label[layout.annotated], x, y


def _check(counts: Ints, seed: int, index: int) -> None:
    """Raise ValueError if an argument of `render_specimen` is out of range."""
    if seed < 0 or index < 0:
        raise ValueError(f"Expected arguments `seed` and `index` to be >= 0, but got {seed} and {index}")
    if counts.shape != (len(CLASSES),) or counts.min() < 0 or counts.sum() == 0:
        raise ValueError(f"Expected argument `counts` to be {len(CLASSES)} numbers >= 0, not all 0, but got {counts}")
