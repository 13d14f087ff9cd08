"""What do faults of the image do to a cell? One cell under each fault of optics=faults, as 40x40 px show it.

    cellpatch figures runs figure_faults          # or: make figure_faults RUNS=runs

A row a fault with its strengths, and the same cell clean at the left. The cell is that of figure_blurred_cell, from
the store that the runs were trained on; needs the crops, no run that was evaluated under faults.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import cast

import numpy as np
from omegaconf import OmegaConf

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.config.conf import CONF
from cellpatch.figures.captions import synthetic_prefix
from cellpatch.figures.one_cell import LOOKED_AT, sharpest, under
from cellpatch.figures.plotting import Drawing, add_title, add_tooltip, new_figure, styled
from cellpatch.optics.conditions import CLEAN, FAULTS, STUDY_PX, Condition
from cellpatch.runs.stored_run import require_store

SIDE_BY_SIDE = 2  # faults in a line
LEVELS: dict[str, list[float]] = cast(
    dict[str, list[float]], OmegaConf.to_container(OmegaConf.load(CONF / "optics" / "faults.yaml").faults)
)


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Two faults a line: the clean input, then the fault with rising strength."""
    store = require_store(groups[0].runs[0].record)
    row = sharpest(store)
    crop = store.crops(np.array([row]))[0]
    most = max(map(len, LEVELS.values()))
    columns = SIDE_BY_SIDE * (1 + most)
    lines = -(-len(LEVELS) // SIDE_BY_SIDE)
    figure, axes = new_figure(width_mm=22 * columns, height_mm=8 + 26 * lines, rows=lines, columns=columns)
    for ax in axes:
        ax.set_axis_off()
    for number, (kind, strengths) in enumerate(LEVELS.items()):
        first = number * (1 + most)
        conditions = [CLEAN, *(Condition(kind, strength) for strength in strengths)]
        for ax, condition in zip(axes[first:], conditions, strict=False):
            image = ax.imshow(under(crop, store, condition), interpolation="nearest", vmin=0, vmax=1)
            add_tooltip(image, "clean" if condition.is_clean else condition.words)
            ax.set_title(str(condition).replace("_", " "), fontsize=6, pad=2)
    add_title(figure, data)
    units = "; ".join(
        f"{', '.join(kind.replace('_', ' ') for kind in kinds)}: {unit}"
        for unit, kinds in groupby(FAULTS, key=lambda kind: FAULTS[kind].unit)
    )
    shown = store.manifest.classes[store.labels[row]]
    caption = (
        f"One {synthetic_prefix(groups).upper()}cell ({shown}) of {data} under faults of the "
        f"image, as a network of {STUDY_PX} px sees it: clean, and at the strengths of optics=faults. Units: {units}. "
        f"It is the sharpest of up to {LOOKED_AT} cells of each class, of {len(store)} "
        f"{synthetic_prefix(groups)}cells in the store."
    )
    return Drawing("figure_faults", figure, caption)


if __name__ == "__main__":
    main_of_figure(draw)
