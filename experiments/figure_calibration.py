"""Does a model know when a slide is out of focus? Calibration error against blur, before and after temperature scaling.

    python experiments/figure_calibration.py runs          # or: make figure_calibration RUNS=runs

Expected calibration error (15 equal-width bins) at the flag_limit that most models have; blur after the resize. The
temperature was fitted on clean validation cells. Means over seeds as the records have them; no intervals over
specimens, since the error of a resample is biased upwards.
"""

from collections.abc import Sequence

import numpy as np

from cellpatch.estimates import Group, at_one_limit, labelled, limit_of, told, under_blur
from cellpatch.plotting import PAGE_MM, Drawing, draw_curve, draw_from, finish, new_figure, styled
from cellpatch.stats import blur_axis

TITLES = {"ece": "as they are", "ece_scaled": "after temperature scaling"}


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Calibration error against log2(1 + sigma), a panel each for probabilities as they are and scaled."""
    chosen = labelled(at_one_limit(under_blur(groups)))
    figure, axes = new_figure(PAGE_MM, 85, columns=2, sharey=True)
    for place, (score, title) in zip(axes, TITLES.items(), strict=True):
        found: list[float] = []
        for label, group in chosen.items():
            errors = _means(group, score)
            sigmas = sorted(errors)
            y = [(errors[sigma],) * 3 for sigma in sigmas]
            told_of = [f"sigma {sigma:g}, calibration error {errors[sigma]:.3f}" for sigma in sigmas]
            draw_curve(place, blur_axis(sigmas).tolist(), y, label, told_of, group.place)
            found = sorted({*found, *sigmas})
        place.set_xticks(blur_axis(found), [f"{sigma:g}" for sigma in found])
        place.set_xlabel("sigma, px of the 40x40 input, on log2(1 + sigma)")
        place.set_title(title)
    axes[0].set_ylabel("expected calibration error, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    caption = f"Calibration error under blur after the resize, {data}, means over seeds. "
    return Drawing("figure_calibration", figure, caption + told(list(chosen.values())).rpartition(";")[0] + ".")


def _means(group: Group, score: str) -> dict[float, float]:
    rows = [row for run in group.runs for row in run.record["metrics"] if row["kind"] in ("none", "post")]
    return {
        sigma: float(np.mean([row[score] for row in rows if row["sigma"] == sigma]))
        for sigma in {row["sigma"] for row in rows}
    }


if __name__ == "__main__":
    draw_from(draw)
