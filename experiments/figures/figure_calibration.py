"""Does a model know when a slide is out of focus? Calibration error against blur, before and after temperature scaling.

    cellpatch figures runs figure_calibration          # or: make figure_calibration RUNS=runs

Expected calibration error (15 equal-width bins) at the flag_limit that most models have; blur after the resize. The
temperature was fitted on clean validation cells. Means over seeds with intervals over seeds alone: how far other
specimens would be from these is not in them, and the error of a resample of specimens is biased upwards. The caption
names the class frequencies that probabilities presume: models of different ones are not comparable.
"""

from collections.abc import Callable, Sequence
from functools import partial

from cellpatch.analysis.estimates import mean_over_seeds
from cellpatch.analysis.groups import SeedGroup, at_one_limit, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, prior_caption, sample_size_caption
from cellpatch.figures.panels import BlurCurve, draw_blur_panels
from cellpatch.figures.plotting import Drawing, styled
from cellpatch.metrics.classification import Scores

ERRORS: dict[str, Callable[[Scores], float]] = {
    "as they are": lambda scores: scores.ece,
    "after temperature scaling": lambda scores: scores.ece_scaled,
}


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Calibration error against log2(1 + sigma), a row each for probabilities as they are and scaled."""
    chosen = by_label(at_one_limit(under_blur(groups, "post")), groups)
    panels = {title: partial(_errors, error) for title, error in ERRORS.items()}
    figure, gaps = draw_blur_panels(data, chosen, panels, "calibration error", sharey="col")
    caption = f"Calibration error under blur after the resize, {data}, means over seeds. "
    intervals = "95 % intervals over seeds alone, none of a single one"
    n = sample_size_caption(list(chosen.values()), groups, intervals)
    missing = missing_groups_caption("Not evaluated under blur", chosen, groups)
    return Drawing("figure_calibration", figure, caption + n + prior_caption(chosen) + gaps + missing)


def _errors(error: Callable[[Scores], float], group: SeedGroup) -> BlurCurve:
    by_sigma: dict[float, list[float]] = {}
    for run in group.runs:
        for row in run.record.metrics:
            if row.condition in run.confusions and (row.condition.is_clean or row.condition.kind == "post"):
                by_sigma.setdefault(row.condition.sigma, []).append(error(row.scores))
    return {sigma: mean_over_seeds(by_sigma[sigma]) for sigma in sorted(by_sigma)}


if __name__ == "__main__":
    main_of_figure(draw)
