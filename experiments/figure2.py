"""What does a better score cost? Macro-F1 against milliseconds per cell, and the models that none beats in both.

    python -m cellpatch.latency runs/*          # writes a card of latency into each record; let nothing run beside it
    python experiments/figure2.py runs          # or: make figure2 RUNS=runs

At the flag_limit that most models have. Milliseconds are the median of one cell at a time (batch 1, eager), from the
card of any run of that model, adapt and input side.
"""

import json
from collections.abc import Sequence

from cellpatch.estimates import Group, at_one_limit, labelled, limit_of, told
from cellpatch.plotting import Drawing, draw_from, finish, look_at, new_figure, styled, tip
from cellpatch.stats import macro_f1


@styled
def draw(data: str, groups: Sequence[Group]) -> Drawing:
    """Macro-F1 against milliseconds on a log axis, with the Pareto front."""
    chosen = labelled(at_one_limit(groups))
    cards = {label: _milliseconds(group, groups) for label, group in chosen.items()}
    known = {label: ms for label, ms in cards.items() if ms is not None}
    if not known:
        raise ValueError("no run has a card of latency: python -m cellpatch.latency RUNS/* writes them")
    figure, [axes] = new_figure(height_mm=80)
    scores = {label: chosen[label].estimate(chosen[label].conditions()[0], macro_f1) for label in known}
    for label, ms in known.items():
        style = look_at(chosen[label].place)
        low, high = scores[label].interval()
        axes.vlines([ms], low, high, color=style["color"], linewidth=0.8, alpha=0.6)
        [point] = axes.plot([ms], [scores[label].mean], linestyle="", markersize=5, label=label, **style)
        tip(point, f"{label}: macro-F1 {scores[label].mean:.3f} ({low:.3f} to {high:.3f}), {ms:.3g} ms a cell")
    front = pareto({label: (ms, scores[label].mean) for label, ms in known.items()})
    corners = [(known[label], scores[label].mean) for label in front]
    axes.step(*zip(*corners, strict=True), where="post", color="0.7", linewidth=1, zorder=0)
    axes.set_xscale("log")
    axes.set_xlabel("ms per cell, one at a time")
    axes.set_ylabel("macro-F1, test")
    finish(figure, f"{data}, flag_limit {limit_of(chosen)}")
    lacking = [label for label in chosen if label not in known]
    missing = f" No card of latency: {', '.join(lacking)}." if lacking else ""
    caption = f"Macro-F1 against milliseconds per cell (eager, batch 1), {data}; grey: the Pareto front. "
    return Drawing("figure2", figure, caption + told(list(chosen.values())) + missing)


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, score) that no other one beats in one and equals in the other, by rising cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def _milliseconds(group: Group, groups: Sequence[Group]) -> float | None:
    same = [
        each for each in groups if all(each.place[key] == group.place[key] for key in ("model", "adapt", "input_px"))
    ]
    cards = [run.record["latency"] for each in same for run in each.runs if run.record.get("latency")]
    machines = {json.dumps([card["hardware"], card["device"]], sort_keys=True) for card in cards}
    if len(machines) > 1:
        raise ValueError(f"cards of latency are of different machines or threads: {sorted(machines)}")
    return float(cards[0]["engines"]["eager"][0]["ms"]) if cards and "eager" in cards[0]["engines"] else None


if __name__ == "__main__":
    draw_from(draw)
