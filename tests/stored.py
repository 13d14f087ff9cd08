"""Stored runs as tests look at them: the JSON that was written, whoever reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.runs.record import seal, unseal
from cellpatch.runs.stored_run import StoredRun


def read_record(run: Path) -> dict[str, Any]:
    """record.json as it was written, less its checksum, which is checked."""
    return unseal((run / "record.json").read_text(encoding="utf-8"), str(run))


def replace_record(run: Path, record: dict[str, Any]) -> None:
    """Write another record, with its checksum."""
    (run / "record.json").write_text(seal(record), encoding="utf-8")


def read_predictions(run: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of all conditions in their order, and their probabilities."""
    predictions = StoredRun.open(run).predictions.values()
    return pd.concat([each.rows for each in predictions]), np.concatenate([each.probabilities for each in predictions])


def records(runs_dir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Every run of a folder with its record, by name."""
    return [
        (file.parent, json.loads(json.dumps(read_record(file.parent))))
        for file in sorted(runs_dir.glob("*/record.json"))
    ]
