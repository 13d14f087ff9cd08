"""All runs of a folder as one table."""

from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd

from cellpatch.metrics.classification import Scores
from cellpatch.metrics.scores import WIDESPREAD
from cellpatch.runs.coordinates import FIELD, GRID_KEYS
from cellpatch.runs.folders import named_runs
from cellpatch.runs.identity import effective_split
from cellpatch.runs.readable import Readable, describe_problem, open_each
from cellpatch.runs.record import Record
from cellpatch.runs.training_code import is_mixed

COLUMNS = [
    "model",
    "adapt",
    "input_px",
    "optics",
    "data",
    "flag_limit",
    "seed",
    "kind",
    "sigma",
    "n_train",
    "accuracy",
    "macro_f1",
    "macro_f1_widespread",
    "classes_not_widespread",
    "balanced_accuracy",
    "ece",
    "prior",
    "seconds",
    "updates",
    "best_validation",
    "left_out",
    "joined",
    "doubtful",
    "mirrored_cells",
    "run",
]


@runtime_checkable
class TabledRun(Protocol):
    """What the table takes of a run: one in a folder, or a packed one."""

    @property
    def name(self) -> str: ...

    @property
    def record(self) -> Record: ...

    @property
    def specimens_by_class(self) -> dict[str, int] | None: ...


def runs_table(*paths: Path) -> pd.DataFrame:
    """The table of the runs that `paths` name, runs and folders of runs, as `table_of`; what else is there is skipped.

    Raises ValueError for a path where nothing is, and one that lists all runs that cannot be read.
    """
    return table_of(with_test_cells(open_each(named_runs(paths))).all_runs())


def with_test_cells(found: Readable[TabledRun]) -> Readable[TabledRun]:
    """The runs whose specimens the table can take, beside what could not be read already.

    The runs of a grid share their test cells: the predictions of one run of each test set are read.
    """
    problems, runs = list(found.problems), []
    known: set[str] = set()
    for run in found.runs:
        test_set = _test_set(run.record)
        try:
            if test_set not in known:
                _ = run.specimens_by_class
        except ValueError as error:
            problems.append(describe_problem(run.name, error))
            continue
        known.add(test_set)
        runs.append(run)
    return Readable(runs, problems)


def table_of(runs: Sequence[TabledRun]) -> pd.DataFrame:
    """One row per run and optical condition; `seconds` are those of the fit alone, `updates` those that were done.

    `best_validation` is `first` or `last` where a training's best validation was: neither, a probe, and a run of a
    version that did not record it are empty.

    `macro_f1_widespread` is the mean F1 over the classes that lie in at least ten test specimens (WIDESPREAD), and
    `classes_not_widespread` counts the others; missing where the predictions are missing, or no class does.

    `prior` names the class frequencies that probabilities presume, on which `ece` depends; empty where a run's version
    did not record it.

    `left_out`, `joined` and `doubtful` count objects of the input, `mirrored_cells` test cells whose margin is mirrored
    within the blur's reach; missing where a run's version did not count them.

    A column `field_um` joins where runs show crops of several fields.

    A column `fold` joins where runs test folds of the specimens: its rows are of one fold each, and not pooled.

    A column `pretrain_seconds` joins where runs were pretrained without labels: `seconds` lack them, and an earlier run
    may have spent them. A column `training_code` joins where runs are of different training code.
    """
    rows = []
    specimens: dict[str, dict[str, int] | None] = {}
    for run in runs:
        record = run.record
        test_set = _test_set(record)
        if test_set not in specimens:
            specimens[test_set] = run.specimens_by_class
        code = record.training_code
        shared = asdict(record.settings.coordinates) | {
            "n_train": record.n_train,
            "prior": "" if record.prior is None else record.prior.name,
            "seconds": record.seconds.train,
            "pretrain_seconds": record.pretrain_seconds,
            "updates": record.updates,
            "best_validation": record.best_validation,
            "run": run.name,
            **({} if record.data.intake is None else record.data.intake.totals()),
            "fold": None if (audit := record.audit) is None or (held := audit.held_out_fold) is None else held.fold,
            "training_code": f"{record.cellpatch}" if code is None else f"{code.number} {code.fingerprint}",
        }
        rows += [
            shared
            | asdict(row.condition)
            | _scores(row.scores)
            | _widespread(row.scores, specimens[test_set])
            | {"mirrored_cells": row.mirrored_cells}
            for row in record.metrics
        ]
    mixed = is_mixed(run.record for run in runs)
    pretrained = any(run.record.pretraining is not None for run in runs)
    folds = any(row["fold"] is not None for row in rows)
    fields = len({row[FIELD] for row in rows}) > 1
    columns = [
        *COLUMNS,
        *([FIELD] if fields else []),
        *(["fold"] if folds else []),
        *(["pretrain_seconds"] if pretrained else []),
        *(["training_code"] if mixed else []),
    ]
    table = pd.DataFrame(rows, columns=columns)
    table["updates"] = table["updates"].astype("Int64")  # whole numbers, missing for probes
    table["classes_not_widespread"] = table["classes_not_widespread"].astype("Int64")
    table["best_validation"] = table["best_validation"].fillna("")
    if folds:
        table["fold"] = table["fold"].astype("Int64")
    joined = [*([FIELD] if fields else []), *(["fold"] if folds else [])]
    return table.sort_values([*GRID_KEYS, *joined, "kind", "sigma"], ignore_index=True)


def _test_set(record: Record) -> str:
    return dumps([record.data.fingerprint, effective_split(record.settings), record.classes], sort_keys=True)


def _widespread(scores: Scores, specimens: dict[str, int] | None) -> dict[str, float | int]:
    if specimens is None:
        return {}
    f1 = [scores.per_class[name].f1 for name, n in specimens.items() if n >= WIDESPREAD]
    known = [value for value in f1 if value is not None]
    mean = {"macro_f1_widespread": sum(known) / len(known)} if known else {}
    return mean | {"classes_not_widespread": len(specimens) - len(f1)}


def _scores(scores: object) -> dict[str, float]:
    return {name: getattr(scores, name) for name in ("accuracy", "macro_f1", "balanced_accuracy", "ece")}
