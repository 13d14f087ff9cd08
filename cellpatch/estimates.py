"""From runs to numbers with intervals: the seeds of one place in a grid, scored on shared draws of their specimens."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from cellpatch import scaling, stats
from cellpatch.conditions import CLEAN, Condition
from cellpatch.results import Result
from cellpatch.runs import AXES

DRAWS = 2000
PLACE = [axis for axis in AXES if axis != "seed"]
SCORES: dict[str, stats.Score] = {"accuracy": stats.accuracy, "macro_f1": stats.macro_f1}


@dataclass(frozen=True)
class Estimate:
    """A score of each seed and its draws over specimens, which are the same for all runs on the same cells."""

    values: Float[np.ndarray, " seeds"]
    draws: Float[np.ndarray, "draws seeds"]
    seeds: tuple[int, ...]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def interval(self) -> tuple[float, float]:
        """95 % over specimens and seeds; over specimens alone if there is one seed."""
        return stats.interval_of_mean(self.values, self.draws.mean(axis=1))

    def both_draws(self) -> Float[np.ndarray, " draws"]:
        """Draws of the mean over specimens and seeds, for what is no linear function of scores; somewhat too wide."""
        return self.draws.mean(axis=1) + stats.seed_noise(self.values, self.seeds, len(self.draws), stream=0)


def combine(function: Callable[[np.ndarray], np.ndarray], estimates: Sequence[Estimate]) -> Estimate:
    """A function of several scores, along the last axis, seed by seed and draw by draw."""
    places = paired([estimate.seeds for estimate in estimates])
    values = np.stack([e.values[place] for e, place in zip(estimates, places, strict=True)], axis=-1)
    draws = np.stack([e.draws[:, place] for e, place in zip(estimates, places, strict=True)], axis=-1)
    return Estimate(function(values), function(draws), tuple(estimates[0].seeds[i] for i in places[0]))


def paired(seeds: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of the seeds that all have: equal seeds have annotated the same cells.

    If there are none, of as many as all have, in their order: the variances of independent seeds then add up as they
    should.
    """
    shared = sorted(set.intersection(*map(set, seeds)))
    if shared:
        return [[list(of_one).index(seed) for seed in shared] for of_one in seeds]
    return [list(range(min(map(len, seeds))))] * len(seeds)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One less the other, paired by seed and specimen."""
    return combine(lambda x: x[..., 0] - x[..., 1], [one, other])


@dataclass(frozen=True)
class Group:
    """The runs of one place in a grid, one a seed, on the same test cells."""

    place: dict[str, Any]
    runs: tuple[Result, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.about["seed"] for run in self.runs)

    @property
    def n_train(self) -> int:
        """Training cells, the mean over seeds."""
        return round(float(np.mean([run.about["n_train"] for run in self.runs])))

    @property
    def n_test(self) -> int:
        return int(self.runs[0].confusions[CLEAN].sum())

    @property
    def n_specimens(self) -> int:
        return len(self.runs[0].specimens)

    def conditions(self) -> list[Condition]:
        """Those that all its runs were evaluated under, in the first one's order."""
        return [c for c in self.runs[0].confusions if all(c in run.confusions for run in self.runs)]

    def estimate(self, condition: Condition, score: stats.Score) -> Estimate:
        """A score under a condition, of each seed."""
        of_seeds = [_scored(run, condition, score) for run in self.runs]
        values, draws = zip(*of_seeds, strict=True)
        return Estimate(np.array(values), np.stack(draws, axis=1), self.seeds)


def grouped(results: Sequence[Result]) -> list[Group]:
    """Runs by their place in the grid, in the order of PLACE.

    Raises ValueError if two runs of a place have the same seed, or others test cells: their mean would be of two
    studies.
    """
    by_place: dict[tuple[Any, ...], list[Result]] = {}
    for result in sorted(results, key=lambda result: tuple(result.about[axis] for axis in AXES)):
        by_place.setdefault(tuple(result.about[axis] for axis in PLACE), []).append(result)
    groups = []
    for place, runs in by_place.items():
        names = [run.run for run in runs]
        if len({run.about["seed"] for run in runs}) < len(runs):
            raise ValueError(f"runs that differ in more than {AXES} are no one grid; move one elsewhere: {names}")
        if len({run.cells for run in runs}) > 1:
            raise ValueError(f"runs on other test cells have no common mean; move some elsewhere: {names}")
        groups.append(Group(dict(zip(PLACE, place, strict=True)), tuple(runs)))
    return groups


def data_sets(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups by the name of their data; raises ValueError if runs of one name are on different test cells."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.place["data"], []).append(group)
    for data, of_data in found.items():
        by_cells = {group.runs[0].cells: group.runs[0].run for group in of_data}
        if len(by_cells) > 1:
            raise ValueError(
                f"runs on {data} have different test cells; keep one split of it: {list(by_cells.values())}"
            )
    return found


@dataclass(frozen=True)
class Curve:
    """The groups of one model, adapt and input side on one data set, by rising flag_limit."""

    place: dict[str, Any]
    groups: tuple[Group, ...]

    @property
    def limits(self) -> list[int]:
        return [group.place["flag_limit"] for group in self.groups]

    def estimates(self, limits: Sequence[int], score: stats.Score) -> list[Estimate]:
        """Of clean cells, at these limits."""
        return [self.groups[self.limits.index(limit)].estimate(CLEAN, score) for limit in limits]


def curves(groups: Sequence[Group]) -> list[Curve]:
    """Groups joined over flag_limit."""
    joined: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        joined.setdefault(tuple(group.place[axis] for axis in PLACE[:-1]), []).append(group)
    return [Curve(dict(zip(PLACE[:-1], place, strict=True)), tuple(of)) for place, of in joined.items()]


Placed = TypeVar("Placed", Group, Curve)


def labelled(found: Sequence[Placed]) -> dict[str, Placed]:
    """Groups of one limit, or curves, by what they are called.

    Model, way of adapting if there is one, input side if the model has several.
    """
    sides: dict[str, set[int]] = {}
    for each in found:
        sides.setdefault(each.place["model"], set()).add(each.place["input_px"])
    names = {}
    for each in found:
        model, adapt, side = (each.place[axis] for axis in ("model", "adapt", "input_px"))
        name = model if adapt == "scratch" else f"{model}, {adapt}"
        names[f"{name}, {side} px" if len(sides[model]) > 1 else name] = each
    return names


def crossing(small: Curve, large: Curve, score: stats.Score) -> tuple[float, float, float]:
    """The flag_limit from which on `small` stays ahead of `large`, and its 95 % interval.

    0 is ahead at each limit that both have, infinity is not ahead at the largest. Raises ValueError if they share no
    two limits or other test cells.
    """
    shared = [limit for limit in small.limits if limit in large.limits]
    if len(shared) < 2 or small.groups[0].runs[0].cells != large.groups[0].runs[0].cells:
        raise ValueError(f"a crossing needs two limits on the same test cells, but got {small.place}, {large.place}")
    pairs = zip(small.estimates(shared, score), large.estimates(shared, score), strict=True)
    ahead = [difference(one, other) for one, other in pairs]
    means = np.array([apart.mean for apart in ahead])
    draws = np.stack([apart.both_draws() for apart in ahead], axis=1)
    low, high = stats.interval(scaling.overtakes_at(shared, draws))
    return float(scaling.overtakes_at(shared, means)), low, high


def at_one_limit(groups: Sequence[Group]) -> list[Group]:
    """The groups of the flag_limit that most models have, the largest of several."""
    limits = [group.place["flag_limit"] for group in groups]
    if not limits:
        return []
    chosen = max(limits, key=lambda limit: (limits.count(limit), limit))
    return [group for group in groups if group.place["flag_limit"] == chosen]


def limit_of(chosen: Mapping[str, Group]) -> int:
    """The flag_limit of groups of one limit."""
    [limit] = {group.place["flag_limit"] for group in chosen.values()}
    return int(limit)


def under_blur(groups: Sequence[Group]) -> list[Group]:
    """The groups that were evaluated both before and after the resize; raises ValueError if there are none."""
    found = [group for group in groups if {"pre", "post"} <= {condition.kind for condition in group.conditions()}]
    if not found:
        raise ValueError("no run was evaluated under blur: optics=blur evaluates those that exist")
    return found


def blur_curve(group: Group, kind: str, score: stats.Score) -> tuple[list[float], list[Estimate]]:
    """Rising sigmas of a kind, from 0 on, and the score at each."""
    sigmas = [0.0, *sorted(condition.sigma for condition in group.conditions() if condition.kind == kind)]
    return sigmas, [group.estimate(Condition(kind, sigma) if sigma else CLEAN, score) for sigma in sigmas]


def told(groups: Sequence[Group]) -> str:
    """For captions: how many cells, specimens and seeds, and what the intervals are."""
    numbers = sorted({len(group.seeds) for group in groups})
    seeds = " or ".join(map(str, numbers)) + f" seed{'s' * (numbers != [1])}"
    kind = (
        "specimens"
        if numbers == [1]
        else "specimens and seeds"
        if 1 not in numbers
        else "specimens, and seeds if several"
    )
    cells = f"n = {groups[0].n_test} test cells of {groups[0].n_specimens} specimens"
    return f"{cells}; {seeds}; 95 % intervals over {kind}."


def gaps(places: Sequence[str], limits: Sequence[int], there: Collection[tuple[str, int]]) -> str:
    """For captions: which runs are missing of all places at all limits; empty if none is."""
    missing = [f"{place} at {limit}" for place in places for limit in limits if (place, limit) not in there]
    return f" No runs: {', '.join(missing)}." if missing else ""


def redrawn(group: Group) -> float:
    """The share of its draws that lacked a class and were drawn again."""
    return _times_of(group.runs[0])[1]


def _scored(run: Result, condition: Condition, score: stats.Score) -> tuple[float, Float[np.ndarray, " draws"]]:
    counts = run.confusions[condition]
    return float(score(counts.sum(axis=0))), score(stats.resample(counts, _times_of(run)[0]))


def _times_of(run: Result) -> tuple[Int[np.ndarray, "draws specimens"], float]:
    """The draws of its specimens: equal for runs on equal cells, which are so paired."""
    true = run.confusions[CLEAN].sum(axis=2)
    return _times(true.tobytes(), *true.shape)


@lru_cache(maxsize=16)
def _times(true: bytes, specimens: int, classes: int) -> tuple[Int[np.ndarray, "draws specimens"], float]:
    counts = np.frombuffer(true, np.int64).reshape(specimens, classes)
    return stats.resamples(counts[:, :, None] * np.eye(classes, dtype=np.int64), DRAWS, seed=0)
