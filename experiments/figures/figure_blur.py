"""How does macro-F1 fall with blur? Curves over all sigmas, after and before the resize, with their intervals.

    cellpatch figures runs figure_blur          # or: make figure_blur RUNS=runs

At the flag_limit that most models have.
"""

from collections.abc import Sequence
from functools import partial

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.groups import SeedGroup, at_one_limit, blur_curve, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.panels import BlurCurve, draw_blur_panels
from cellpatch.figures.plotting import Drawing, styled
from cellpatch.metrics.scores import macro_f1

TITLES = {"post": "after the resize (post)", "pre": "before the resize (pre)"}


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 against log2(1 + sigma), a row each for post and pre."""
    chosen = by_label(at_one_limit(under_blur(groups, "pre", "post")), groups)
    panels = {title: partial(_curve, kind) for kind, title in TITLES.items()}
    figure, gaps = draw_blur_panels(data, chosen, panels, "macro-F1", baseline=largest_class(groups, macro_f1))
    missing = missing_groups_caption("Not evaluated under blur", chosen, groups)
    caption = f"Macro-F1 under Gaussian blur, {data}; dotted: always naming the largest class. "
    caption += sample_size_caption(list(chosen.values()), groups) + gaps + missing
    return Drawing("figure_blur", figure, caption)


def _curve(kind: str, group: SeedGroup) -> BlurCurve:
    sigmas, estimates = blur_curve(group, kind, macro_f1)
    return {sigma: estimate.summary() for sigma, estimate in zip(sigmas, estimates, strict=True)}


if __name__ == "__main__":
    main_of_figure(draw)
