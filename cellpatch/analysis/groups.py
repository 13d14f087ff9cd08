"""The runs of one place in a grid, one a seed, scored on shared draws of their specimens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cellpatch.analysis.bootstrap import bootstrap_weights, weighted_counts
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.results import RunResult
from cellpatch.metrics.scores import Score, accuracy, class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.coordinates import GRID_KEYS

DRAWS = 2000
STUDY_LIMIT = 4096  # of the study's figures 2, 4 and 5
GROUP_KEYS = [axis for axis in GRID_KEYS if axis != "seed"]
SCORES: dict[str, Score] = {"accuracy": accuracy, "macro_f1": macro_f1}


@dataclass(frozen=True)
class SeedGroup:
    """The runs of one place in a grid, one a seed, on the same test cells."""

    place: dict[str, Any]
    runs: tuple[RunResult, ...]

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

    @property
    def no_interval(self) -> str:
        """Why there is no interval over its specimens; empty if there is one."""
        return _draws_of(self.runs[0]).why_none

    def conditions(self) -> list[Condition]:
        """Those that all its runs were evaluated under, in the first one's order."""
        return [c for c in self.runs[0].confusions if all(c in run.confusions for run in self.runs)]

    def estimate(self, condition: Condition, score: Score) -> Estimate:
        """A score under a condition, of each seed."""
        of_seeds = [_scored(run, condition, score) for run in self.runs]
        values, draws = zip(*of_seeds, strict=True)
        return Estimate(np.array(values), np.stack(draws, axis=1), self.seeds, (0.0, 1.0))


def group_by_seed(results: Sequence[RunResult]) -> list[SeedGroup]:
    """Runs by their place in the grid, in the order of PLACE.

    Raises ValueError if two runs of a place have the same seed, or others test cells: their mean would be of two
    studies.
    """
    by_place: dict[tuple[Any, ...], list[RunResult]] = {}
    for result in sorted(results, key=lambda result: tuple(result.about[axis] for axis in GRID_KEYS)):
        by_place.setdefault(tuple(result.about[axis] for axis in GROUP_KEYS), []).append(result)
    groups = []
    for place, runs in by_place.items():
        names = [run.run for run in runs]
        if len({run.about["seed"] for run in runs}) < len(runs):
            raise ValueError(f"runs that differ in more than {GRID_KEYS} are no one grid; move one elsewhere: {names}")
        if len({run.cells for run in runs}) > 1:
            raise ValueError(f"runs on other test cells have no common mean; move some elsewhere: {names}")
        groups.append(SeedGroup(dict(zip(GROUP_KEYS, place, strict=True)), tuple(runs)))
    return groups


def data_sets(groups: Sequence[SeedGroup]) -> dict[str, list[SeedGroup]]:
    """Groups by the name of their data; raises ValueError if runs of one name are on different test cells."""
    found: dict[str, list[SeedGroup]] = {}
    for group in groups:
        found.setdefault(group.place["data"], []).append(group)
    for data, of_data in found.items():
        by_cells = {group.runs[0].cells: group.runs[0].run for group in of_data}
        if len(by_cells) > 1:
            raise ValueError(
                f"runs on {data} have different test cells; keep one split of it: {list(by_cells.values())}"
            )
    return found


def at_one_limit(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """The groups of the flag_limit that most models have; of several the study's 4096, else the largest."""
    limits = [group.place["flag_limit"] for group in groups]
    if not limits:
        return []
    chosen = max(limits, key=lambda limit: (limits.count(limit), limit == STUDY_LIMIT, limit))
    return [group for group in groups if group.place["flag_limit"] == chosen]


def limit_of(chosen: Mapping[str, SeedGroup]) -> int:
    """The flag_limit of groups of one limit."""
    [limit] = {group.place["flag_limit"] for group in chosen.values()}
    return int(limit)


def under_blur(groups: Sequence[SeedGroup], *kinds: str) -> list[SeedGroup]:
    """Of groups the runs that were evaluated under most conditions, where these have all the kinds of blur asked for.

    Some kind if none is asked for. Raises ValueError if there are none.
    """
    found = []
    for group in groups:
        most = max((set(run.confusions) for run in group.runs), key=len)
        there = {condition.kind for condition in most} - {"none"}
        if there and set(kinds) <= there:
            found.append(replace(group, runs=tuple(run for run in group.runs if set(run.confusions) == most)))
    if not found:
        raise ValueError("no run was evaluated under blur: optics=blur evaluates those that exist")
    return found


def blur_curve(group: SeedGroup, kind: str, score: Score) -> tuple[list[float], list[Estimate]]:
    """Rising sigmas of a kind, from 0 on, and the score at each."""
    sigmas = [0.0, *sorted(condition.sigma for condition in group.conditions() if condition.kind == kind)]
    return sigmas, [group.estimate(Condition(kind, sigma) if sigma else CLEAN, score) for sigma in sigmas]


def redrawn(group: SeedGroup) -> float:
    """The share of its draws that lacked a class and were drawn again."""
    return _draws_of(group.runs[0]).redrawn


@lru_cache(maxsize=8192)  # 16 kB each; a paper's figures and tables ask for the same scores up to a hundred times
def _scored(run: RunResult, condition: Condition, score: Score) -> tuple[float, Float[np.ndarray, " draws"]]:
    counts = class_counts(run.confusions[condition])
    drawn = _draws_of(run)
    draws = np.full(DRAWS, np.nan) if drawn.why_none else score(weighted_counts(counts, drawn.times))
    return float(score(counts.sum(axis=0))), draws


class _Draws(NamedTuple):
    """How often each specimen is in each draw, the share that was drawn again, and why there are no draws, if so."""

    times: Int[np.ndarray, "draws specimens"]
    redrawn: float
    why_none: str = ""


def _draws_of(run: RunResult) -> _Draws:
    """Those of its specimens: equal for runs on equal cells, which are so paired."""
    true = run.confusions[CLEAN].sum(axis=2)
    return _draws(true.tobytes(), *true.shape)


@lru_cache(maxsize=16)
def _draws(true: bytes, specimens: int, classes: int) -> _Draws:
    none = np.zeros((0, specimens), np.int64)
    if specimens == 1:
        return _Draws(none, np.nan, "one test specimen says nothing of others")
    try:
        return _Draws(*bootstrap_weights(np.frombuffer(true, np.int64).reshape(specimens, classes), DRAWS, seed=0))
    except ValueError as error:
        return _Draws(none, np.nan, str(error))
