"""Runs of all folds as one: every specimen is tested once, by a network that did not see it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from json import dumps

import numpy as np

from cellpatch.analysis.compact import Confusions, SparseConfusions
from cellpatch.analysis.run_result import RunResult
from cellpatch.analysis.unlike_runs import why_not_averaged
from cellpatch.data.splitter import HeldOutFold
from cellpatch.metrics.pooling import pool_scores
from cellpatch.optics.conditions import Condition
from cellpatch.runs.condition_scores import ConditionScores
from cellpatch.runs.record import Record, Seconds
from cellpatch.runs.turned import TurnedScores

_SHOWN = 8  # runs in an error


def pool_folds(results: Sequence[RunResult]) -> list[RunResult]:
    """The runs, those that differ in their fold alone joined to one run of all specimens.

    If there is one fold only, as after `--where data.split.fold=0`, its runs stay as they are. Raises ValueError that
    lists the folds that are missing, or if a fold is there twice.
    """
    tested = {run.held_out_fold for run in results} - {None}
    if len(tested) < 2:
        return list(results)
    places: dict[str, list[RunResult]] = {}
    for run in results:
        if run.held_out_fold is not None:
            places.setdefault(_place(run), []).append(run)
    _require_all(list(places.values()))
    return [*(run for run in results if run.held_out_fold is None), *map(_pool, places.values())]


def _place(run: RunResult) -> str:
    """What the runs of all folds share."""
    return dumps([str(run.coordinates), run.folds_key], sort_keys=True)


def _require_all(places: Sequence[Sequence[RunResult]]) -> None:
    lacking = []
    for runs in places:
        for first, second in combinations(runs, 2):
            if first.held_out_fold == second.held_out_fold:
                raise ValueError(why_not_averaged([first, second]))
        absent = sorted(set(range(_heldout(runs[0]).folds)) - {_heldout(run).fold for run in runs})
        lacking += [f"{runs[0].run} lacks data.split.fold={','.join(map(str, absent))}"] if absent else []
    if lacking:
        shown = "\n  ".join(lacking[:_SHOWN]) + ("\n  ..." if len(lacking) > _SHOWN else "")
        raise ValueError(
            f"folds are pooled only if all of them are there:\n  {shown}\n"
            "Train these, leave their models out by --models, or choose one fold by --where data.split.fold=0"
        )


def _heldout(run: RunResult) -> HeldOutFold:
    assert run.held_out_fold is not None
    return run.held_out_fold


def _pool(runs: Sequence[RunResult]) -> RunResult:
    folds = tuple(sorted(runs, key=lambda run: _heldout(run).fold))
    conditions = [at for at in folds[0].confusions if all(at in run.confusions for run in folds)]
    names = [name for run in folds for name in run.specimens]
    order = np.argsort(np.array(names))
    confusions: dict[Condition, Confusions] = {
        at: np.concatenate([run.confusions[at] for run in folds])[order] for at in conditions
    }
    of_views = [at for at in conditions if all(at in run.turned for run in folds)]
    turned = {at: np.concatenate([run.turned[at] for run in folds])[order] for at in of_views}
    first = folds[0]
    return replace(
        first,
        run=f"{first.run} and the other folds",
        record=_pool_records([run.record for run in folds], conditions),
        specimens=tuple(names[i] for i in order),
        confusions=SparseConfusions(confusions),
        folder=None,
        folds=folds,
        cohorts={},  # each of its networks may be evaluated on one: they are no network together
        turned=SparseConfusions(turned),
    )


def _pool_records(records: Sequence[Record], conditions: Sequence[Condition]) -> Record:
    """One record of all folds: pooled scores, test cells of all, and means of what each training took.

    What describes a single training (its history, best validation, temperature) is that of no training, or of the
    first: `SeedGroup.trainings` has each.
    """
    first = records[0]
    seconds = Seconds(
        train=float(np.mean([record.seconds.train for record in records])),
        evaluate=float(np.sum([record.seconds.evaluate for record in records])),
    )
    audit = None if first.audit is None else replace(first.audit, held_out_fold=None)
    turned = [record.turned for record in records if record.turned is not None]
    return replace(
        first,
        counts=_pool_counts([record.counts for record in records]),
        metrics=[_pool_condition([_row_at(record, at) for record in records]) for at in conditions],
        seconds=seconds,
        audit=audit,
        files={},
        val_macro_f1=None,
        best_epoch=None,
        epochs=None,
        best_update=None,
        updates=None,
        best_validation=None,
        history=None,
        turned=_pool_turned(turned) if len(turned) == len(records) else None,
    )


def _pool_turned(turned: Sequence[TurnedScores]) -> TurnedScores:
    """Scores with test-time augmentation of all folds, under the conditions that all have."""
    rows = [{row.condition: row for row in each.metrics} for each in turned]
    shared = [condition for condition in rows[0] if all(condition in each for each in rows)]
    pooled = [_pool_condition([each[condition] for each in rows]) for condition in shared]
    return replace(turned[0], file="", seconds=sum(each.seconds for each in turned), metrics=pooled)


def _row_at(record: Record, condition: Condition) -> ConditionScores:
    return next(row for row in record.metrics if row.condition == condition)


def _pool_condition(rows: Sequence[ConditionScores]) -> ConditionScores:
    mirrored = [row.mirrored_cells for row in rows if row.mirrored_cells is not None]
    total = sum(mirrored) if len(mirrored) == len(rows) else None
    return ConditionScores(rows[0].condition, pool_scores([row.scores for row in rows]), total)


def _pool_counts(counts: Sequence[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Cells by part and class: of the test set all, of the others a mean over folds."""
    pooled = {}
    for part, of_class in counts[0].items():
        cells = {name: [each[part][name] for each in counts] for name in of_class}
        pooled[part] = {
            name: sum(values) if part == "test" else round(float(np.mean(values))) for name, values in cells.items()
        }
    return pooled
