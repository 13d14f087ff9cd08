"""Groups on external cohorts: the same networks on the cells of another hospital, scanner or stain."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cellpatch.analysis.estimates import Estimate, independent_difference
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import row_of
from cellpatch.analysis.run_result import RunResult
from cellpatch.metrics.scores import Score, macro_f1_of
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.cohorts import Cohort


def cohort_names(groups: Sequence[SeedGroup]) -> list[str]:
    """The external cohorts that any run was evaluated on; raises ValueError if there is none."""
    names = sorted({name for group in groups for run in group.runs for name in run.cohorts})
    if not names:
        raise ValueError("no run was evaluated on an external cohort: cellpatch evaluate RUNS data=... does so")
    return names


def on_cohort(groups: Sequence[SeedGroup], name: str) -> dict[SeedGroup, SeedGroup]:
    """Each group whose runs were all evaluated on a cohort, and the same group on the cohort's cells.

    A group keeps the runs that were, if some were not. Raises ValueError if the cohort is not the same for all: other
    cells, or other classes.
    """
    found, stated = {}, dict[str, str]()
    for group in groups:
        runs = tuple(run for run in group.runs if name in run.cohorts)
        if not runs:
            continue
        for run in runs:
            cohort = cohort_of(run, name)
            stated[f"{cohort.fingerprint} {sorted(cohort.class_map.items(), key=str)}"] = run.run
        found[replace(group, runs=runs)] = replace(group, runs=tuple(_on(run, name) for run in runs))
    if len(stated) > 1:
        first, second, *_ = stated.values()
        raise ValueError(
            f"{name} must be one cohort, but {first} and {second} were evaluated on other cells or in other classes: "
            "evaluate all runs again in one command"
        )
    return found


def cohort_of(run: RunResult, name: str) -> Cohort:
    """What a run's record states of a cohort."""
    return next(cohort for cohort in run.record.cohorts if cohort.name == name)


def _on(run: RunResult, name: str) -> RunResult:
    cells = run.cohorts[name]
    return replace(run, specimens=cells.specimens, confusions=cells.confusions, folder=None, cohorts={}, turned={})


def shared_score(external: SeedGroup) -> Score:
    """Macro-F1 over the classes that the cohort has: over others its networks were not asked."""
    tested = external.runs[0].confusions[CLEAN].sum(axis=(0, 2)) > 0
    return macro_f1_of(tuple(np.flatnonzero(tested).tolist()))


def change_on(own: SeedGroup, external: SeedGroup) -> Estimate:
    """`shared_score` on a cohort less that on the own test cells, of the same networks: specimens of both vary."""
    score = shared_score(external)
    return independent_difference(external.estimate(CLEAN, score), own.estimate(CLEAN, score))


def summarise_cohorts(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per cohort and group, on clean cells: `shared_score` on own test cells, on the cohort's, and the change.

    `classes` are those that it is over. Intervals are 95 %. Raises ValueError as `cohort_names` and `on_cohort`.
    """
    rows = []
    for name in cohort_names(groups):
        for own, external in on_cohort(groups, name).items():
            about = {"cohort": name, "data": own.coordinates.data} | row_of(own, groups)
            about |= {"seeds": len(own.seeds), "n_test": own.n_test, "n_cohort": external.n_test}
            about |= {"specimens": own.n_specimens, "specimens_cohort": external.n_specimens}
            score = shared_score(external)
            about["classes"] = int((external.runs[0].confusions[CLEAN].sum(axis=(0, 2)) > 0).sum())
            for part, estimate in (
                ("own", own.estimate(CLEAN, score)),
                ("external", external.estimate(CLEAN, score)),
                ("change", change_on(own, external)),
            ):
                about |= dict(zip((part, f"{part}_low", f"{part}_high"), estimate.summary(), strict=True))
            rows.append(about)
    return pd.DataFrame(rows)
