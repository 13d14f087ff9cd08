"""What does a better score cost? Macro-F1 against milliseconds per cell, and the models that none beats in both.

    python -m cellpatch.latency runs/*          # writes a card of latency into each record; let nothing run beside it
    python experiments/figure2.py runs          # or: make figure2 RUNS=runs

At the flag_limit that most models have. Milliseconds are median and quartiles of one cell at a time (batch 1, eager),
from the card of any run of that model, adapt and input side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latency_table import NEEDED, need_one_machine

from cellpatch.captions import labelled, lacking, told
from cellpatch.conditions import CLEAN
from cellpatch.groups import Group, at_one_limit, limit_of
from cellpatch.plotting import Drawing, draw_from, draw_point, finish, log_axis, look_at, new_figure, styled
from cellpatch.stats import macro_f1


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Macro-F1 against milliseconds on a log axis, with the Pareto front."""
    chosen = labelled(at_one_limit(groups), groups)
    known, machine = milliseconds(chosen, groups)
    if not known:
        raise ValueError(NEEDED)
    figure, [axes] = new_figure(height_mm=80)
    scores = {label: chosen[label].estimate(CLEAN, macro_f1) for label in known}
    for label, (ms, low, high) in known.items():
        place = chosen[label].place
        axes.hlines([scores[label].mean], low, high, color=look_at(place)["color"], linewidth=0.8, alpha=0.6)
        text = f"{label}: {ms:.3g} ms ({low:.3g} to {high:.3g}) a cell, macro-F1"
        draw_point(axes, ms, scores[label], place, text, label)
    front = pareto({label: (ms, scores[label].mean) for label, (ms, _, _) in known.items()})
    corners = [(known[label][0], scores[label].mean) for label in front]
    axes.step(*zip(*corners, strict=True), where="post", color="0.7", linewidth=1, zorder=0)
    log_axis(axes)
    axes.set_xlabel("ms per cell, one at a time")
    axes.set_ylabel("macro-F1, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    drawn = {label: chosen[label] for label in known}
    missing = lacking("No card of latency", drawn, groups)
    caption = f"Macro-F1 against milliseconds per cell (eager, batch 1, medians and quartiles on {machine}), {data}; "
    return Drawing("figure2", figure, f"{caption}grey: the Pareto front. {told(list(drawn.values()))}{missing}")


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, score) that no other one beats in one and equals in the other, by rising cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def milliseconds(
    chosen: Mapping[str, Group], groups: Sequence[Group]
) -> tuple[dict[str, tuple[float, float, float]], str]:
    """Eager milliseconds of one cell at a time, median and quartiles, and on what machine.

    Of those of which a run at any limit has a card.

    Raises ValueError if the cards are of different hardware or threads.
    """
    same = ("model", "adapt", "input_px", "optics")
    cards: dict[str, Mapping[str, Any]] = {}
    for label, group in chosen.items():
        runs = [run for each in groups if all(each.place[key] == group.place[key] for key in same) for run in each.runs]
        of_runs = [run.record["latency"] for run in runs if "eager" in run.record.get("latency", {}).get("engines", {})]
        cards |= {label: of_runs[0]} if of_runs else {}
    need_one_machine(cards.values())
    firsts = {label: card["engines"]["eager"][0] for label, card in cards.items()}
    known = {label: (row["ms"], row["low"], row["high"]) for label, row in firsts.items()}
    return known, _told(next(iter(cards.values()))["hardware"]) if cards else ""


def _told(hardware: Mapping[str, Any]) -> str:
    threads = hardware["threads"]
    return f"{hardware['gpu'] or hardware['processor']}, {threads} thread{'s' * (threads > 1)}"


if __name__ == "__main__":
    draw_from(draw)
