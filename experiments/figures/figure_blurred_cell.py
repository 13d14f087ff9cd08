"""What does blur do to a cell? One cell under the nine conditions of optics=blur, as a network of 40x40 px sees it.

    cellpatch figures runs figure_blurred_cell          # or: make figure_blurred_cell RUNS=runs

The last row is the difference of pre and post, made larger. The cell is the sharpest of some of each class, from the
store that the runs were trained on; needs the crops, no blurred run.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.patches import Rectangle

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.captions import synthetic_prefix
from cellpatch.figures.one_cell import LOOKED_AT, sharpest, under
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, new_figure, styled
from cellpatch.optics.conditions import CLEAN, STUDY_PX, Condition
from cellpatch.runs.stored_run import require_store

SIGMAS = (0.4, 0.8, 1.6, 3.2)  # of conf/optics/blur.yaml
ROWS = {"pre": "before the resize (pre)", "post": "after the resize (post)"}
LARGER = 8  # times, of the difference between pre and post


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """The stored crop and the clean input at the left; rows of pre, post and their difference, sigma rising."""
    store = require_store(groups[0].runs[0].record)
    row = sharpest(store)
    crop, geometry = store.crops(np.array([row]))[0], store.geometry
    figure, axes = new_figure(height_mm=68, rows=len(ROWS) + 1, columns=1 + len(SIGMAS))
    for ax in axes:
        ax.set_axis_off()
    stored, clean = axes[0], axes[1 + len(SIGMAS)]
    stored.imshow(crop, interpolation="nearest")
    box = (geometry.margin_px - 0.5, geometry.margin_px - 0.5)
    stored.add_patch(Rectangle(box, geometry.crop_px, geometry.crop_px, fill=False, linewidth=0.6))
    stored.set_title(f"stored, {len(crop)} px", fontsize=6, pad=2)
    clean.imshow(under(crop, store, CLEAN), interpolation="nearest")
    clean.set_title(f"clean, {STUDY_PX} px", fontsize=6, pad=2)
    for number, kind in enumerate(ROWS):
        first = number * (1 + len(SIGMAS)) + 1
        for ax, sigma in zip(axes[first : first + len(SIGMAS)], SIGMAS, strict=True):
            condition = Condition(kind, sigma)
            image = ax.imshow(under(crop, store, condition), interpolation="nearest")
            add_tooltip(image, f"{kind} {sigma:g}: Gaussian blur {ROWS[kind]}, sigma {sigma:g} px of {STUDY_PX}")
            ax.set_title(str(condition), fontsize=6, pad=2)
    apart = differences(crop, store)
    for ax, sigma, difference in zip(axes[-len(SIGMAS) :], SIGMAS, apart, strict=True):
        image = ax.imshow((0.5 + LARGER * difference).clip(0, 1), interpolation="nearest")
        add_tooltip(
            image, f"pre less post at sigma {sigma:g}, times {LARGER}; at most {256 * abs(difference).max():.1f}"
        )
        ax.set_title(f"{LARGER} (pre - post)", fontsize=6, pad=2)
    add_title_and_legend(figure, data)
    words = f" Last row: {LARGER} times pre less post, grey where they are equal; they differ by at most "
    words += f"{max(256 * abs(difference).max() for difference in apart):.1f} of 256 levels."
    return Drawing("figure_blurred_cell", figure, caption(data, groups, store, row) + words)


def differences(crop: UInt8[np.ndarray, "s s 3"], store: CellStore) -> list[Float[np.ndarray, "h h 3"]]:
    """What a network sees under blur before the resize, less what it sees under blur after it, at each of SIGMAS."""
    return [
        under(crop, store, Condition("pre", sigma)) - under(crop, store, Condition("post", sigma)) for sigma in SIGMAS
    ]


def caption(data: str, groups: Sequence[SeedGroup], store: CellStore, row: int) -> str:
    """What is seen, of which cell."""
    kind = synthetic_prefix(groups).upper()
    width = f" ({store.geometry.field_um:g} um)" if store.geometry.field_um else ""
    is_resized = store.geometry.crop_px != STUDY_PX
    equal = "" if is_resized else " Crops of that side are not resized, so pre and post are equal."
    return (
        f"One {kind}cell ({store.manifest.classes[store.labels[row]]}) of {data} under blur. Stored: the crop of "
        f"{store.geometry.crop_px} px{width} in its margin. The others are what a network of {STUDY_PX} px sees: "
        "clean, and under Gaussian blur before the resize (pre, above) and after it (post, below), sigma in pixels of "
        f"the {STUDY_PX}x{STUDY_PX} image. It is the sharpest of up to {LOOKED_AT} cells of each class, of "
        f"{len(store)} {synthetic_prefix(groups)}cells in the store.{equal}"
    )


if __name__ == "__main__":
    main_of_figure(draw)
