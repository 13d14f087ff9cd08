"""Latency cards of groups."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cellpatch.analysis.groups import SeedGroup


def pareto(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, score) that no other one beats in one and equals in the other, by rising cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def milliseconds(
    chosen: Mapping[str, SeedGroup], groups: Sequence[SeedGroup]
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
    require_one_machine(cards.values())
    firsts = {label: card["engines"]["eager"][0] for label, card in cards.items()}
    known = {label: (row["ms"], row["low"], row["high"]) for label, row in firsts.items()}
    return known, format_hardware(next(iter(cards.values()))["hardware"]) if cards else ""


def format_hardware(hardware: Mapping[str, Any]) -> str:
    threads = hardware["threads"]
    return f"{hardware['gpu'] or hardware['processor']}, {threads} thread{'s' * (threads > 1)}"


NO_LATENCY_CARDS = "no run has a card of latency: python -m cellpatch.latency RUNS/* writes them"


def require_one_machine(cards: Iterable[Mapping[str, Any]]) -> None:
    """Raises ValueError if cards of latency are of different hardware or threads."""
    machines = {json.dumps([card["hardware"], card["device"]], sort_keys=True) for card in cards}
    if len(machines) > 1:
        raise ValueError(f"cards of latency are of different machines or threads: {sorted(machines)}")
