"""Who survives a slide out of focus? Macro-F1 on clean cells and under blur of sigma 1.6, after and before the resize.

    cellpatch train -m ... optics=blur          # evaluates runs that exist under blur, without training them again
    cellpatch figures runs figure4          # or: make figure4 RUNS=runs

At the flag_limit that most models have (the study: 4096); the strong level of the study, or the nearest that any model
was evaluated at both before and after the resize. The caption names the models that were not.
"""

from collections.abc import Sequence
from dataclasses import replace

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import missing_groups_caption, row_label, sample_size_caption
from cellpatch.figures.palette import model_style
from cellpatch.figures.plotting import Drawing, add_title_and_legend, add_tooltip, draw_baseline, new_figure, styled
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, Condition

STRONG = 1.6
SIDES = (("clean", "o", 0.2), ("post", "s", 0.0), ("pre", "^", -0.2))


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """One row a model, by its clean score; three marks each."""
    blurred = by_label(at_one_limit(under_blur(groups, "pre", "post")), groups)
    sigma = strong(list(blurred.values()))
    conditions = {"clean": CLEAN, "post": Condition("post", sigma), "pre": Condition("pre", sigma)}
    chosen = {label: group for label, group in blurred.items() if set(conditions.values()) <= set(group.conditions())}
    marks = {
        label: {name: group.estimate(condition, macro_f1).summary() for name, condition in conditions.items()}
        for label, group in chosen.items()
    }
    order = sorted(chosen, key=lambda label: marks[label]["clean"][0])
    figure, [ax] = new_figure(height_mm=30 + 7 * len(order))
    for row, label in enumerate(order):
        colour = model_style(chosen[label].coordinates.model).color
        for name, marker, shift in SIDES:
            value, low, high = marks[label][name]
            ax.hlines([row + shift], low, high, color=colour, linewidth=0.8, alpha=0.6)
            face = colour if name == "clean" else "white"
            [point] = ax.plot([value], [row + shift], marker, color=colour, markerfacecolor=face, markersize=4)
            add_tooltip(point, f"{label}, {name}: macro-F1 {format_ci(value, low, high)}")
    for name, marker, _ in SIDES:
        ax.plot([], [], marker, color="0.3", markerfacecolor="0.3" if name == "clean" else "white", label=name)
    ax.set_yticks(range(len(order)), [row_label(label, chosen) for label in order])
    ax.set_ylim(-0.5, len(order) - 0.5)
    ax.grid(visible=False, axis="y")  # no line below an interval
    ax.set_xlabel("macro-F1, test")
    draw_baseline([ax], largest_class(groups, macro_f1), upright=True)
    add_title_and_legend(figure, f"{data}, flag_limit {limit_of(chosen)}, sigma {sigma:g} px of 40")
    caption = (
        f"Macro-F1 on clean cells and under Gaussian blur of sigma {sigma:g}, after (post) and before (pre) resizing; "
        "dotted: always naming the largest class"
    )
    missing = missing_groups_caption("Not evaluated at that sigma", chosen, groups)
    return Drawing(
        "figure4", figure, f"{caption}, {data}. " + sample_size_caption(list(chosen.values()), groups) + missing
    )


def strong(groups: Sequence[SeedGroup]) -> float:
    """The sigma nearest to STRONG that a group was evaluated at before and after the resize.

    Raises ValueError if there is none.
    """
    both = {
        condition.sigma
        for group in groups
        for condition in group.conditions()
        if condition.kind == "pre" and replace(condition, kind="post") in group.conditions()
    }
    if not both:
        raise ValueError("no run was evaluated at one sigma both before and after the resize: optics=blur adds it")
    return min(both, key=lambda sigma: abs(sigma - STRONG))


if __name__ == "__main__":
    main_of_figure(draw)
