"""Seed groups: the runs that differ in their seed alone, scored on shared bootstrap draws of their specimens."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cellpatch.analysis.bootstrap import bootstrap_weights, weighted_counts
from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.folds import pool_folds
from cellpatch.analysis.run_result import RunResult
from cellpatch.analysis.unlike_runs import why_not_averaged, why_other_cells
from cellpatch.metrics.scores import Score, accuracy, class_counts, macro_f1, macro_f1_of, widespread_classes
from cellpatch.metrics.validations import BestValidation
from cellpatch.optics.conditions import CLEAN, Condition, faults_among
from cellpatch.runs.coordinates import GroupCoordinates
from cellpatch.runs.record import TrainingCode

DRAWS = 2000
STUDY_LIMIT = 4096  # of the study's figures 2, 4 and 5
SCORES: dict[str, Score] = {"accuracy": accuracy, "macro_f1": macro_f1}


@dataclass(frozen=True)
class SeedGroup:
    """The runs at the same coordinates of a grid, one a seed, on the same test cells."""

    coordinates: GroupCoordinates
    runs: tuple[RunResult, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.coordinates.seed for run in self.runs)

    @property
    def n_train(self) -> int:
        """Training cells, the mean over seeds."""
        return round(float(np.mean([run.n_train for run in self.runs])))

    @property
    def n_test(self) -> int:
        return int(self.runs[0].confusions[CLEAN].sum())

    @property
    def n_specimens(self) -> int:
        return len(self.runs[0].specimens)

    @property
    def trainings(self) -> list[RunResult]:
        """Its runs, or each of their folds, if these are pooled: a network was trained for each."""
        return [training for run in self.runs for training in run.trainings]

    @property
    def folds(self) -> int:
        """The number of folds that its runs pool; 0 if they pool none."""
        return len(self.runs[0].folds)

    @property
    def training_codes(self) -> set[TrainingCode | None]:
        """The training codes of its runs; None means runs of versions that did not record it."""
        return {run.record.training_code for run in self.trainings}

    @property
    def mixed_code(self) -> bool:
        """Whether its runs were trained by different code: their mean is then of no single method."""
        return len(self.training_codes) > 1

    @property
    def of_probes(self) -> bool:
        """Whether its runs are probes, which train on features."""
        return self.runs[0].record.settings.is_probe

    @property
    def best_validations(self) -> Counter[BestValidation]:
        """How many of its trainings kept their first or last validation."""
        kept = [run.record.best_validation for run in self.trainings]
        return Counter(each for each in kept if each is not None)

    @property
    def no_interval(self) -> str:
        """Why there is no interval over its specimens; empty if there is one."""
        return _draws_of(self.runs[0]).why_none

    @property
    def specimens_by_class(self) -> dict[str, int]:
        """In how many test specimens each class lies."""
        return self.runs[0].specimens_by_class

    @property
    def widespread_score(self) -> Score:
        """Macro-F1 over the classes that lie in at least WIDESPREAD test specimens; NaN if none does."""
        return macro_f1_of(widespread_classes(self.runs[0].confusions[CLEAN].sum(axis=2)))

    @property
    def widespread_macro_f1(self) -> Estimate:
        """That score on clean cells."""
        return self.estimate(CLEAN, self.widespread_score)

    def conditions(self) -> list[Condition]:
        """The conditions that all its runs were evaluated under, in the order of the first run."""
        return [c for c in self.runs[0].confusions if all(c in run.confusions for run in self.runs)]

    def blur_conditions(self) -> list[Condition]:
        """Clean, and each blur that all its runs were evaluated under."""
        return [condition for condition in self.conditions() if not condition.is_fault]

    def fault_conditions(self) -> list[Condition]:
        """The faults other than blur that all its runs were evaluated under, as `faults_among` sorts them."""
        return faults_among(self.conditions())

    def estimate(self, condition: Condition, score: Score) -> Estimate:
        """A score under a condition, of each seed."""
        return self._estimate([_score_run(run, condition, score) for run in self.runs])

    def estimate_counts(
        self,
        counts: Sequence[np.ndarray],
        score: Callable[[np.ndarray], np.ndarray],
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> Estimate:
        """A score of other counts of each run than its confusions, by test specimen; a single one is of all seeds.

        `score` gives a number of counts that are summed over specimens, [draws, ...] to [draws].
        """
        return self._estimate([_score_counts(self.runs[0], each, score) for each in counts], bounds)

    def _estimate(self, scored: Sequence["_Scored"], bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
        values, draws, without = zip(*scored, strict=True)
        seeds = self.seeds if len(scored) == len(self.seeds) else self.seeds[:1]
        return Estimate(np.array(values), np.stack(draws, 1), np.stack(without, 1), seeds, bounds)


def group_by_seed(results: Sequence[RunResult]) -> list[SeedGroup]:
    """Runs grouped by their coordinates without the seed, sorted by them; their folds are pooled first.

    Raises ValueError if folds are missing, or two runs of a group have the same seed or different test cells: their
    mean would be of two studies.
    """
    by_coordinates: dict[GroupCoordinates, list[RunResult]] = {}
    for result in sorted(pool_folds(results), key=lambda result: result.coordinates):
        by_coordinates.setdefault(result.coordinates.group, []).append(result)
    groups = []
    for coordinates, runs in by_coordinates.items():
        if len({run.coordinates.seed for run in runs}) < len(runs):
            raise ValueError(why_not_averaged(runs))
        by_test_set = {run.test_set_key: run for run in runs}
        if len(by_test_set) > 1:
            first, second, *_ = by_test_set.values()
            raise ValueError(f"runs on other test cells have no common mean, but {why_other_cells(first, second)}")
        groups.append(SeedGroup(coordinates, tuple(runs)))
    return groups


def data_sets(groups: Sequence[SeedGroup]) -> dict[str, list[SeedGroup]]:
    """Groups by the name of their data; raises ValueError if runs of one name are on different test cells.

    Those of several fields are one data set if each shows the same cells.
    """
    by_data: dict[str, list[SeedGroup]] = {}
    for group in groups:
        by_data.setdefault(group.coordinates.data, []).append(group)
    for data, of_data in by_data.items():
        of_field = {(group.coordinates.field_um, group.runs[0].test_set_key): group.runs[0] for group in of_data}
        for first, second in combinations(of_field.values(), 2):
            if first.coordinates.field_um == second.coordinates.field_um or first.cells_key != second.cells_key:
                raise ValueError(f"runs on {data} have different test cells: {why_other_cells(first, second)}")
    return by_data


def at_one_limit(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """The groups of the flag_limit that most models have; of several, that of most runs, then 4096, the largest."""
    by_limit: dict[int, list[SeedGroup]] = {}
    for group in groups:
        by_limit.setdefault(group.coordinates.flag_limit, []).append(group)
    if not by_limit:
        return []

    def completeness(limit: int) -> tuple[int, int, bool, int]:
        return len(by_limit[limit]), sum(len(group.runs) for group in by_limit[limit]), limit == STUDY_LIMIT, limit

    return by_limit[max(by_limit, key=completeness)]


def limit_of(chosen: Mapping[str, SeedGroup]) -> int:
    """The flag_limit of groups of one limit."""
    [limit] = {group.coordinates.flag_limit for group in chosen.values()}
    return limit


def under_blur(groups: Sequence[SeedGroup], *kinds: str) -> list[SeedGroup]:
    """Each group with only its runs that were evaluated under the most conditions of blur.

    Leaves out groups where these lack one of `kinds`, or all blur if no kind is named. Raises ValueError if no group
    is left.
    """
    alike = [_evaluated_alike(group, lambda condition: condition.is_blur) for group in groups]
    blurred = [group for group in alike if {*kinds} <= {each.kind for each in group.conditions() if each.is_blur}]
    blurred = [group for group in blurred if len(group.blur_conditions()) > 1]
    if not blurred:
        raise ValueError("no run was evaluated under blur: optics=blur evaluates finished runs")
    return blurred


def under_faults(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """Each group with only its runs that were evaluated under the most faults other than blur.

    Leaves out groups without any. Raises ValueError if no group is left.
    """
    alike = [_evaluated_alike(group, lambda condition: condition.is_fault) for group in groups]
    faulty = [group for group in alike if group.fault_conditions()]
    if not faulty:
        raise ValueError("no run was evaluated under faults other than blur: optics=faults evaluates finished runs")
    return faulty


def _evaluated_alike(group: SeedGroup, of: Callable[[Condition], bool]) -> SeedGroup:
    """The group with only its runs that were evaluated under the most conditions of a sort."""
    each = [{condition for condition in run.confusions if of(condition)} for run in group.runs]
    most = max(each, key=len)
    return replace(group, runs=tuple(run for run, found in zip(group.runs, each, strict=True) if found == most))


def blur_curve(group: SeedGroup, kind: str, score: Score) -> tuple[list[float], list[Estimate]]:
    """Rising sigmas of a kind of blur, from 0 (clean) on, and the score at each."""
    blurred = sorted((c for c in group.conditions() if c.kind == kind), key=lambda condition: condition.sigma)
    conditions = [CLEAN, *blurred]
    return [c.sigma for c in conditions], [group.estimate(condition, score) for condition in conditions]


def redrawn(group: SeedGroup) -> float:
    """The share of its bootstrap draws that lacked a class and were drawn again, in [0, 1]."""
    return _draws_of(group.runs[0]).redrawn


class _Scored(NamedTuple):
    """A score of a run, its draws over specimens, and the score without each specimen in turn."""

    value: float
    draws: Float[np.ndarray, " draws"]
    without: Float[np.ndarray, " specimens"]


@lru_cache(maxsize=8192)  # 17 kB each; a paper's figures and tables ask for the same scores up to a hundred times
def _score_run(run: RunResult, condition: Condition, score: Score) -> _Scored:
    return _score_counts(run, class_counts(run.confusions[condition]), score)


def _score_counts(run: RunResult, counts: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> _Scored:
    drawn = _draws_of(run)
    if drawn.why_none:
        draws, without = np.full(DRAWS, np.nan), np.full(len(counts), np.nan)
    else:
        draws, without = score(weighted_counts(counts, drawn.weights)), score(counts.sum(axis=0) - counts)
    return _Scored(float(score(counts.sum(axis=0))), draws, without)


class _Draws(NamedTuple):
    """How often each specimen is in each draw, the share that was drawn again, and why there are no draws, if so."""

    weights: Int[np.ndarray, "draws specimens"]
    redrawn: float
    why_none: str = ""


def _draws_of(run: RunResult) -> _Draws:
    """Draws of its specimens: equal for runs on equal cells, which are so paired."""
    true = run.confusions[CLEAN].sum(axis=2)
    return _draws(true.tobytes(), *true.shape)


@lru_cache(maxsize=16)  # all runs on the same cells share their draws, and every score asks for them
def _draws(true: bytes, specimens: int, classes: int) -> _Draws:
    none = np.zeros((0, specimens), np.int64)
    if specimens == 1:
        return _Draws(none, np.nan, "one test specimen gives no information about others")
    try:
        return _Draws(*bootstrap_weights(np.frombuffer(true, np.int64).reshape(specimens, classes), DRAWS, seed=0))
    except ValueError as error:
        return _Draws(none, np.nan, str(error))
