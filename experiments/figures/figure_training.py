"""Was each training long enough? Macro-F1 and loss on validation cells, and the loss of training, over updates.

    cellpatch figures runs figure_training          # or: make figure_training RUNS=runs

At the flag_limit that most models have. Means over the seeds, of validations that all of them had; the mark is the
best mean. The loss of training is of augmented cells.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.families import End, Member, families, label_ends
from cellpatch.figures.palette import LINESTYLES
from cellpatch.figures.plotting import Drawing, add_title, add_tooltip, figure_width, new_figure, styled

ROWS = {"val_macro_f1": "macro-F1, validation", "val_loss": "loss, validation", "train_loss": "loss, training"}


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """A row a measure, a column a family of models; raises ValueError if no record has a history."""
    chosen = by_label(at_one_limit([group for group in groups if _trained(group)]), groups)
    if not chosen:
        raise ValueError("no record has a history of validations: probes have none")
    states_updates = all(
        "update" in (run.record.history or [{}])[0] for group in chosen.values() for run in group.trainings
    )
    panels = families({label: group.coordinates for label, group in chosen.items()})
    width = figure_width(len(panels))
    figure, axes = new_figure(width, 15 + 45 * len(ROWS), len(ROWS), len(panels), sharex=True, sharey="row")
    add_title(figure, f"{data}, flag_limit {limit_of(chosen)}")
    ends = []
    for index, ax in enumerate(axes):
        row, column = divmod(index, len(panels))
        key = list(ROWS)[row]
        members = panels[column].members
        ends.append([_draw(ax, chosen[label], key, member, label, states_updates) for label, member in members.items()])
        if not row:
            ax.set_title(panels[column].title)
        if not column:
            ax.set_ylabel(ROWS[key])
    figure.supxlabel("updates" if states_updates else "validations", fontsize=8)
    label_ends(figure, zip(axes, ends, strict=True))
    caption = (
        f"Macro-F1 and loss on validation cells, and the loss on augmented training cells, over training, {data}; "
    )
    caption += "means over seeds, with a mark at the best macro-F1. Runs were tested on "
    sizes = sample_size_caption(list(chosen.values()), groups, intervals="")
    return Drawing("figure_training", figure, caption + sizes)


def _trained(group: SeedGroup) -> bool:
    return all(run.record.history for run in group.trainings)


def _draw(ax: Axes, group: SeedGroup, key: str, member: Member, label: str, states_updates: bool) -> End:
    """Draw a group's mean over its seeds; gives the last point."""
    x, score = over_training(group, "val_macro_f1", states_updates)
    _, y = over_training(group, key, states_updates)
    line = LINESTYLES[group.coordinates.method]
    ax.plot(x, y, linestyle=line, color=member.style.color, linewidth=1)
    best = int(score.argmax())
    marker: dict[str, Any] = member.style.marker_properties()
    [point] = ax.plot([x[best]], [y[best]], linestyle="", markersize=5, **marker)
    of = "update" if states_updates else "validation"
    add_tooltip(point, f"{label}: best macro-F1 at {of} {x[best]:g} of {x[-1]:g}; {ROWS[key]} there {y[best]:.3f}")
    return End(float(x[-1]), float(y[-1]), member.short, member.style.color)


def over_training(
    group: SeedGroup, key: str, states_updates: bool
) -> tuple[Float[np.ndarray, " validations"], Float[np.ndarray, " validations"]]:
    """The updates, or else the numbers, of the validations that all seeds had, and the mean of a measure there."""
    by_seed = [
        {
            row["update"] if states_updates else number: row[key]
            for number, row in enumerate(run.record.history or [], 1)
            if key in row  # trainer.check_val_every_n_epoch may leave epochs without a validation
        }
        for run in group.trainings
    ]
    shared = sorted(set.intersection(*map(set, by_seed)))
    return np.array(shared, float), np.array([np.mean([values[at] for values in by_seed]) for at in shared])


if __name__ == "__main__":
    main_of_figure(draw)
