"""What do models score on the cells of another hospital, scanner or stain? Own test cells against external cohorts.

    cellpatch evaluate runs data=points data.root=DIR ... data.name=hospital_b      # adds a cohort to runs
    cellpatch figures runs figure_external          # or: make figure_external RUNS=runs

A panel a cohort, a row a model, at the flag_limit that most models have. Macro-F1 on clean cells, over the classes that
the cohort has.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from cellpatch.analysis.external import change_on, cohort_names, on_cohort, shared_score
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, sample_size_caption
from cellpatch.figures.cohort_captions import cohort_caption
from cellpatch.figures.palette import group_style
from cellpatch.figures.plotting import Drawing, add_title, add_tooltip, new_panels, styled
from cellpatch.figures.tables import format_ci
from cellpatch.optics.conditions import CLEAN

OFFSET = 0.16  # of a row: own test cells above the line, the cohort below


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Rows by rising score on the cohort; raises ValueError if no run was evaluated on one."""
    names = cohort_names(groups)
    pairs = {name: on_cohort(at_one_limit(_with_cohort(groups, name)), name) for name in names}
    most = max(map(len, pairs.values()))
    figure, axes = new_panels(names, min(2, len(names)), height_mm=14 + 7 * most, rest_mm=16, sharex="all")
    captions = []
    for name, ax in zip(names, axes, strict=True):
        chosen = by_label(list(pairs[name]), groups)
        _draw_panel(ax, {label: (own, pairs[name][own]) for label, own in chosen.items()})
        ax.set_xlabel("macro-F1")
        captions.append(cohort_caption(list(chosen.values()), name))
        captions[-1] += missing_groups_caption("Not evaluated on it", chosen, groups)
    of_all = by_label(list(next(iter(pairs.values()))), groups)
    add_title(figure, f"{data}, flag_limit {limit_of(of_all)}")
    caption = (
        f"Macro-F1 on own test cells (open marks) and on external cohorts (full marks), {data}, and the change. Own "
        f"cells: {sample_size_caption(list(of_all.values()), groups)} {' '.join(captions)}"
    )
    return Drawing("figure_external", figure, caption)


def _with_cohort(groups: Sequence[SeedGroup], name: str) -> list[SeedGroup]:
    return [group for group in groups if any(name in run.cohorts for run in group.runs)]


def _draw_panel(ax: Axes, pairs: Mapping[str, tuple[SeedGroup, SeedGroup]]) -> None:
    """A row a model: its own score, the cohort's, and the change in words at the right."""
    scored = {}
    for label, (own, external) in pairs.items():
        score = shared_score(external)
        both = own.estimate(CLEAN, score).summary(), external.estimate(CLEAN, score).summary()
        scored[label] = (*both, change_on(own, external).summary(), group_style(own.coordinates).color)
    ordered = sorted(scored, key=lambda label: scored[label][1][0])
    for row, label in enumerate(ordered):
        before, after, change, color = scored[label]
        for (mean, low, high), place, face in ((before, row + OFFSET, "white"), (after, row - OFFSET, color)):
            ax.plot([low, high], [place, place], color=color, linewidth=1)
            [mark] = ax.plot([mean], [place], "o", color=color, markerfacecolor=face, markersize=4)
            add_tooltip(mark, f"{label}: {format_ci(mean, low, high)}")
        words = format_ci(*change, sign="+")
        ax.annotate(
            words,
            (1, row),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    ax.set_yticks(range(len(ordered)), ordered)
    ax.set_ylim(-0.6, len(ordered) - 0.4)


if __name__ == "__main__":
    main_of_figure(draw)
