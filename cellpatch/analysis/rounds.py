"""Rounds of labelling: runs of one method on ever more labels, tested on the same cells, and what more labels bring."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellpatch.analysis.external import cohort_names, on_cohort
from cellpatch.analysis.groups import SeedGroup, group_by_seed
from cellpatch.analysis.planner import Planner
from cellpatch.analysis.run_result import RunResult
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


@dataclass(frozen=True)
class Rounds:
    """Runs by rising number of training labels, and the cells that all of them were tested on, in words."""

    groups: tuple[SeedGroup, ...]
    tested_on: str

    @property
    def labels(self) -> list[int]:
        return [group.n_train for group in self.groups]

    @property
    def planner(self) -> Planner:
        """Of macro-F1 over the number of training labels."""
        return Planner(self.labels, [group.estimate(CLEAN, macro_f1) for group in self.groups])


def rounds_of(results: Sequence[RunResult]) -> Rounds:
    """The rounds that runs make up: those on the same labels are seeds of one round.

    Their own test cells must be the same; else an external cohort that all were evaluated on takes their place. Raises
    ValueError if there is neither, or if the runs differ in their method.
    """
    by_data: dict[str, list[RunResult]] = {}
    for run in results:
        by_data.setdefault(run.record.data.fingerprint, []).append(run)
    groups = [group for of_data in by_data.values() for group in group_by_seed(of_data)]
    places = [group.coordinates for group in groups]
    methods = {(at.model, at.adapt, at.field_um, at.input_px, at.optics) for at in places}
    if len(methods) > 1:
        listed = ", ".join(sorted(f"{model} {adapt} at {side} px" for model, adapt, _, side, _ in methods))
        raise ValueError(f"rounds must be of one model, adaptation, field, input side and optics, but got {listed}")
    if len({_tested(group) for group in groups}) == 1:
        return Rounds(_rising(groups), "their own test cells")
    for name in _cohorts(groups):
        found = on_cohort(groups, name)
        if len(found) == len(groups):
            return Rounds(_rising(list(found.values())), f"the cohort {name}")
    raise ValueError(
        "the runs have different test cells: state the same test cells in each round (a column split in the table of "
        "cells), or evaluate all of them on one cohort (cellpatch evaluate)"
    )


def _tested(group: SeedGroup) -> tuple[object, ...]:
    """What is known of test cells: their specimens, and how many of each class these have."""
    run = group.runs[0]
    return run.specimens, tuple(run.record.classes), run.confusions[CLEAN].sum(axis=2).tobytes()


def _cohorts(groups: Sequence[SeedGroup]) -> list[str]:
    try:
        return cohort_names(groups)
    except ValueError:
        return []


def _rising(groups: Sequence[SeedGroup]) -> tuple[SeedGroup, ...]:
    """By labels; of several with as many, that of most seeds: a flag_limit above all classes changes nothing."""
    by_labels: dict[int, SeedGroup] = {}
    for group in sorted(groups, key=lambda group: len(group.runs)):
        by_labels[group.n_train] = group
    return tuple(by_labels[labels] for labels in sorted(by_labels))
