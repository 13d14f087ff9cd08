"""Latency cards of groups: what one cell costs, and which models offer the most for it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from cellpatch.analysis.groups import SeedGroup
from cellpatch.runs.cards import LatencyCard

NO_LATENCY_CARDS = "no run has a card of latency: cellpatch latency RUNS writes them"


class Milliseconds(NamedTuple):
    """Milliseconds per cell: the median and both quartiles."""

    median: float
    low: float
    high: float


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names on the Pareto front of points (cost, score), by rising cost: no point has more score for as little cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def milliseconds(chosen: Mapping[str, SeedGroup], groups: Sequence[SeedGroup]) -> tuple[dict[str, Milliseconds], str]:
    """Eager milliseconds of one cell at a time, by label, and the machine in words.

    Covers the chosen groups of whose learning curve, at any limit of `groups`, a run has a card. Raises ValueError if
    the cards are of different hardware or threads.
    """
    cards: dict[str, LatencyCard] = {}
    for label, group in chosen.items():
        of_curve = [each for each in groups if each.coordinates.curve == group.coordinates.curve]
        latencies = [run.record.latency for each in of_curve for run in each.trainings]
        timed = [card for card in latencies if card is not None and "eager" in card.engines]
        if timed:
            cards[label] = timed[0]
    require_one_machine(cards.values())
    first_batches = {label: card.engines["eager"][0] for label, card in cards.items()}
    costs = {label: Milliseconds(batch.ms, batch.low, batch.high) for label, batch in first_batches.items()}
    return costs, str(next(iter(cards.values())).hardware) if cards else ""


def require_one_machine(cards: Iterable[LatencyCard]) -> None:
    """Raise ValueError if latency cards are of different hardware or threads."""
    machines = {json.dumps([asdict(card.hardware), card.device], sort_keys=True) for card in cards}
    if len(machines) > 1:
        raise ValueError(f"cards of latency are of different machines or threads: {sorted(machines)}")
