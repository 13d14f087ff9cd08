"""What do the classes look like? Some cells of each, from as many specimens as there are.

    cellpatch figures runs figure_cells          # or: make figure_cells RUNS=runs

Drawn at random from the store that the runs were trained on, without the margin; needs the crops.
"""

from collections.abc import Sequence

import numpy as np

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.captions import synthetic_prefix
from cellpatch.figures.gallery import pick_across_specimens
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, new_figure, styled
from cellpatch.runs.stored_run import require_store

ACROSS, GAP_PX = 12, 2


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A row a class."""
    record = groups[0].runs[0].record
    store = require_store(record)
    classes = record.classes
    figure, axes = new_figure(height_mm=14 + 7.5 * len(classes), rows=len(classes))
    for ax, name in zip(axes, classes, strict=True):
        cells = pick(store, name)
        image = ax.imshow(strip(store, cells), interpolation="nearest")
        n, specimens = int((store.cells["class"] == name).sum()), store.cells["specimen"].iloc[cells].nunique()
        add_tooltip(image, f"{name}: {len(cells)} of {n} cells, of {specimens} specimens")
        ax.set_axis_off()
        ax.set_title(name, fontsize=6, pad=2)
    add_title_and_legend(figure, data)
    field = store.geometry.field_um
    side = f"{store.geometry.crop_px} px" + (f" ({field:g} um)" if field else "")
    caption = (
        f"Up to {ACROSS} cells of each class, {data}, drawn at random, of different specimens where there are enough; "
    )
    return Drawing(
        "figure_cells",
        figure,
        f"{caption}each {side} wide. The store has {len(store)} {synthetic_prefix(groups)}cells.",
    )


def pick(store: CellStore, name: str) -> np.ndarray:
    """Rows of the store of up to ACROSS cells of a class: one a specimen, and more of each once all have one."""
    of_class = np.flatnonzero(store.cells["class"] == name)
    return of_class[pick_across_specimens(store.cells["specimen"].iloc[of_class], ACROSS)]


def strip(store: CellStore, cells: np.ndarray) -> np.ndarray:
    """Crops beside each other without their margin, padded with white to ACROSS of them."""
    margin, side = store.geometry.margin_px, store.geometry.crop_px
    crops = store.crops(cells)[:, margin : margin + side, margin : margin + side]
    row = np.full((side, ACROSS * (side + GAP_PX), 3), 255, np.uint8)
    for i, crop in enumerate(crops):
        row[:, i * (side + GAP_PX) : i * (side + GAP_PX) + side] = crop
    return row


if __name__ == "__main__":
    main_of_figure(draw)
