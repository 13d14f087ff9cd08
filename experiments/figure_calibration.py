"""Does a model know when a slide is out of focus? Calibration error against blur, before and after temperature scaling.

    python experiments/figure_calibration.py runs          # or: make figure_calibration RUNS=runs

Expected calibration error (15 equal-width bins) at the flag_limit that most models have; blur after the resize. The
temperature was fitted on clean validation cells. Means over seeds with intervals over seeds alone: how far other
specimens would be from these is not in them, and the error of a resample of specimens is biased upwards.
"""

from collections.abc import Sequence
from functools import partial

from blur_panels import Curve, draw_panels

from cellpatch.captions import labelled, lacking, told
from cellpatch.estimates import over_seeds
from cellpatch.groups import Group, at_one_limit, under_blur
from cellpatch.plotting import Drawing, draw_from, styled

TITLES = {"ece": "as they are", "ece_scaled": "after temperature scaling"}


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Calibration error against log2(1 + sigma), a panel each for probabilities as they are and scaled."""
    chosen = labelled(at_one_limit(under_blur(groups, "post")), groups)
    panels = {title: partial(_errors, score) for score, title in TITLES.items()}
    figure, holes = draw_panels(data, chosen, panels, "expected calibration error")
    caption = f"Calibration error under blur after the resize, {data}, means over seeds. "
    n = told(list(chosen.values())).rpartition(";")[0] + "; 95 % intervals over seeds alone, none of a single one."
    missing = lacking("Not evaluated under blur", chosen, groups)
    return Drawing("figure_calibration", figure, caption + n + holes + missing)


def _errors(score: str, group: Group) -> Curve:
    rows = [row for run in group.runs for row in run.record["metrics"] if row["kind"] in ("none", "post")]
    sigmas = sorted({row["sigma"] for row in rows})
    return {sigma: over_seeds([row[score] for row in rows if row["sigma"] == sigma]) for sigma in sigmas}


if __name__ == "__main__":
    draw_from(draw)
