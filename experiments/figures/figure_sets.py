"""Do prediction sets hold under blur what they promise on clean cells? Their coverage and size against blur.

    cellpatch figures runs figure_sets          # or: make figure_sets RUNS=runs

Sets of 90 %, calibrated by specimen on clean validation cells, at the flag_limit that most models have; blur after the
resize. Intervals are over specimens and seeds. Needs the runs directory: packed runs hold no probabilities.
"""

from collections.abc import Sequence
from functools import partial

from cellpatch.analysis.cells import with_cells
from cellpatch.analysis.groups import SeedGroup, at_one_limit, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.sets import LEVEL, by_specimen, measure_sets
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.panels import BlurCurve, draw_blur_panels
from cellpatch.figures.plotting import Drawing, styled

PANELS = {"coverage, mean over specimens": "coverage", "classes in a set": "classes"}


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Coverage and size against log2(1 + sigma); raises ValueError if all runs are packed or none is blurred."""
    chosen = by_label(at_one_limit(under_blur(with_cells(groups), "post")), groups)
    panels = {title: partial(_curve, name) for title, name in PANELS.items()}
    figure, gaps = draw_blur_panels(data, chosen, panels, f"sets of {100 * LEVEL:g} %", sharey="row")
    for ax in figure.axes[: len(figure.axes) // len(PANELS)]:
        ax.axhline(LEVEL, color="0.4", linestyle=":", linewidth=1, zorder=0)
    caption = (
        f"Prediction sets of {100 * LEVEL:g} %, calibrated by specimen on clean validation cells, under blur after the "
        f"resize, {data}: the share of sets with the true class (dotted: the promise), and classes in a set. "
    )
    n = sample_size_caption(list(chosen.values()), groups)
    missing = missing_groups_caption("Packed or not evaluated under blur", chosen, groups)
    return Drawing("figure_sets", figure, caption + n + gaps + missing)


def _curve(name: str, group: SeedGroup) -> BlurCurve:
    conditions = [each for each in group.blur_conditions() if each.is_clean or each.kind == "post"]
    found = {each.sigma: measure_sets(group, each, LEVEL, by_specimen) for each in conditions}
    return {sigma: getattr(found[sigma], name).summary() for sigma in sorted(found)}


if __name__ == "__main__":
    main_of_figure(draw)
