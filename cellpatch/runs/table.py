"""All runs of a folder as one table."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cellpatch.runs.coordinates import GRID_KEYS
from cellpatch.runs.stored_run import StoredRun, finished_runs
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
    "balanced_accuracy",
    "ece",
    "seconds",
    "updates",
    "best_validation",
    "left_out",
    "joined",
    "doubtful",
    "mirrored_cells",
    "run",
]


def runs_table(runs_dir: Path) -> pd.DataFrame:
    """One row per run and optical condition; `seconds` are those of the fit alone, `updates` those that were done.

    `best_validation` is `first` or `last` where a training's best validation was: neither, a probe, and a run of a
    version that did not record it are empty.

    `left_out`, `joined` and `doubtful` count objects of the input, `mirrored_cells` test cells whose margin is mirrored
    within the blur's reach; missing where a run's version did not count them.

    A column `pretrain_seconds` joins where runs were pretrained without labels: `seconds` lack them, and an earlier run
    may have spent them. A column `training_code` joins where runs are of different training code. Raises ValueError if
    the folder is absent.
    """
    runs = [StoredRun.open(folder) for folder in finished_runs(runs_dir)]
    rows = []
    for run in runs:
        record = run.record
        code = record.training_code
        shared = asdict(record.settings.coordinates) | {
            "n_train": record.n_train,
            "seconds": record.seconds.train,
            "pretrain_seconds": record.seconds.pretrain,
            "updates": record.updates,
            "best_validation": record.best_validation,
            "run": run.name,
            **({} if record.data.intake is None else record.data.intake.totals()),
            "training_code": f"{record.cellpatch}" if code is None else f"{code.number} {code.fingerprint}",
        }
        rows += [
            shared | asdict(row.condition) | _scores(row.scores) | {"mirrored_cells": row.mirrored_cells}
            for row in record.metrics
        ]
    mixed = is_mixed(run.record for run in runs)
    pretrained = any(run.record.pretraining is not None for run in runs)
    columns = [*COLUMNS, *(["pretrain_seconds"] if pretrained else []), *(["training_code"] if mixed else [])]
    table = pd.DataFrame(rows, columns=columns)
    table["updates"] = table["updates"].astype("Int64")  # whole numbers, missing for probes
    table["best_validation"] = table["best_validation"].fillna("")
    return table.sort_values([*GRID_KEYS, "kind", "sigma"], ignore_index=True)


def _scores(scores: object) -> dict[str, float]:
    return {name: getattr(scores, name) for name in ("accuracy", "macro_f1", "balanced_accuracy", "ece")}
