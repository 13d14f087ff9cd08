"""A finished run on disk: record.json, predictions.parquet, validation.parquet, weights.safetensors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from cellpatch.data.dataset import find_store
from cellpatch.data.store.reader import CellStore
from cellpatch.metrics.classification import Costs
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.cards import FeatureCard, LatencyCard
from cellpatch.runs.folders import RECORD
from cellpatch.runs.record import ConditionScores, Record, metrics_row, parse_record, seal, unseal
from cellpatch.runtime.atomic_io import atomic_write, sha256_of
from cellpatch.runtime.json_types import Json

PREDICTIONS, VALIDATION = "predictions.parquet", "validation.parquet"  # of test cells, of clean validation cells


class Predictions(NamedTuple):
    """Predicted cells: their rows (cell_id, specimen, ...), labels as class indices, probabilities."""

    rows: pd.DataFrame
    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A finished run; its record was read and checked when it was opened.

    The `with_...` methods write a new record, whole or not at all, and give the run as it is then. The run's lock
    (`run_lock`) keeps other processes from doing so at the same time.
    """

    folder: Path
    record: Record
    stored: Json  # the record as it was written, by whichever version

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def stored_config(self) -> Json:
        """The settings as they were written, by whichever version."""
        return cast(Json, self.stored["config"])

    @classmethod
    def open(cls, folder: Path) -> "StoredRun":
        """Read a run's record; raises ValueError if it is missing, unreadable, changed, or states what it cannot."""
        where = f"{folder}: {RECORD}"
        try:
            text = (folder / RECORD).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            runs = sorted(file.parent for file in folder.glob(f"*/{RECORD}"))
            hint = f"; it holds runs, such as {runs[0]}" if runs else ""
            raise ValueError(f"{where} cannot be read ({error}){hint}") from error
        stored = unseal(text, where)
        return cls(folder, parse_record(stored, where), stored)

    def check_files(self, names: Sequence[str] | None = None) -> None:
        """Raise ValueError if one of the record's files, or one of `names`, is missing or changed."""
        for name in self.record.files if names is None else names:
            file = self.folder / name
            if file.parent != self.folder or not file.is_file() or sha256_of(file) != self.record.files[name]:
                raise ValueError(f"{self.folder}: {name} is missing or not as the record states; the run is unusable")

    @cached_property
    def predictions(self) -> Mapping[Condition, Predictions]:
        """The test cells' predictions under each condition, later evaluations included."""
        return self._read(PREDICTIONS)

    @property
    def clean_predictions(self) -> Predictions:
        """The test cells' predictions on clean crops."""
        return self.predictions[CLEAN]

    @cached_property
    def validation(self) -> Mapping[Condition, Predictions]:
        """The clean validation cells' predictions; empty for versions that did not store them."""
        return self._read(VALIDATION) if VALIDATION in self.record.files else {}

    @cached_property
    def specimens_by_class(self) -> dict[str, int] | None:
        """In how many specimens each class has a test cell; None if the predictions are missing.

        Raises ValueError if they were changed.
        """
        if not (self.folder / PREDICTIONS).is_file():
            return None
        self.check_files([PREDICTIONS])
        columns = ["specimen", "label"]
        cells = pq.read_table(self.folder / PREDICTIONS, columns=columns, read_dictionary=columns).to_pandas()
        counts = cells.drop_duplicates()["label"].value_counts()
        return {name: int(counts.get(name, 0)) for name in self.record.classes}

    def _read(self, first: str) -> Mapping[Condition, Predictions]:
        """Files that the record names: another may be what an interrupted evaluation left."""
        names = [name for name in self.record.files if name.startswith(first.removesuffix(".parquet"))]
        self.check_files(names)
        few = ["specimen", "kind"]  # of few values: read as categories, they are compared ten times as fast
        tables = [pq.read_table(self.folder / name, read_dictionary=few) for name in names]
        table = pa.concat_tables(tables).unify_dictionaries()
        column = table["probabilities"].combine_chunks()
        probabilities = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        rows = table.drop_columns(["probabilities"]).to_pandas()
        code = {name: i for i, name in enumerate(self.record.classes)}
        labels = np.array([code[name] for name in rows["label"].cat.categories])[rows["label"].cat.codes]
        predictions = {}
        for kind, sigma in rows[["kind", "sigma"]].drop_duplicates().itertuples(index=False, name=None):
            selected = ((rows["kind"] == kind) & (rows["sigma"] == sigma)).to_numpy()
            predictions[Condition(kind, sigma)] = Predictions(rows[selected], labels[selected], probabilities[selected])
        return predictions

    def with_evaluation(
        self, cells: pd.DataFrame, labels: Int[np.ndarray, " n"], evaluated: "Evaluated", seconds: float
    ) -> "StoredRun":
        """Add conditions: first their predictions as a file of its own, then the record.

        An interruption between the two leaves the record as it was; the file is written again next time.
        """
        number = sum(name.startswith("predictions") for name in self.record.files)
        file = self.folder / f"predictions-{number}.parquet"
        with atomic_write(file) as temporary:
            write_predictions(temporary, cells, labels, evaluated.probabilities, self.record.classes)
        files = {**self.record.files, file.name: sha256_of(file)}
        metrics = [metrics_row(row) for row in (*self.record.metrics, *evaluated.scores)]
        evaluate = self.record.seconds.evaluate + seconds
        stored_seconds = {**cast(Json, self.stored["seconds"]), "evaluate": evaluate}
        return self._replace(files=files, metrics=metrics, seconds=stored_seconds)

    def with_costs(self, costs: Costs, scores: Sequence[ConditionScores]) -> "StoredRun":
        """State other costs of errors, and the scores that follow from them."""
        config = cast(Any, json.loads(json.dumps(self.stored["config"])))
        config["data"]["costs"] |= asdict(costs)
        return self._replace(config=config, metrics=[metrics_row(row) for row in scores])

    def with_latency(self, card: LatencyCard) -> "StoredRun":
        """State what a cell costs."""
        return self._replace(latency=card.as_json())

    def with_features(self, card: FeatureCard) -> "StoredRun":
        """State what the features predict."""
        return self._replace(features=asdict(card))

    def with_tracking(self, logged: Sequence[str], warnings: Sequence[str]) -> "StoredRun":
        """State which trackers show the run, and what failed in others."""
        record = self.record
        together = [*(record.logged or []), *logged]
        known = [*record.warnings, *warnings]
        return self._replace(logged=list(dict.fromkeys(together)), warnings=list(dict.fromkeys(known)))

    def _replace(self, **facts: Any) -> "StoredRun":
        stored = self.stored | facts
        record = parse_record(stored, f"{self.folder}: {RECORD}")
        with atomic_write(self.folder / RECORD) as temporary:
            temporary.write_text(seal(stored), encoding="utf-8")
        return StoredRun(self.folder, record, stored)


class Evaluated(NamedTuple):
    """Probabilities of the same cells under several conditions, and their scores."""

    probabilities: Mapping[Condition, Float[np.ndarray, "n classes"]]
    scores: Sequence[ConditionScores]


def write_predictions(
    file: Path,
    cells: pd.DataFrame,
    labels: Int[np.ndarray, " n"],
    predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    classes: Sequence[str],
) -> None:
    """One row a condition and cell; `probabilities` is a list in the order of the record's classes."""
    n = len(cells)
    tables = []
    for condition, probabilities in predicted.items():
        columns = {
            "cell_id": pa.array(cells["cell_id"], pa.string()),
            "specimen": pa.array(cells["specimen"].astype(str), pa.string()),
            "label": pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), pa.array(classes, pa.string())),
            "kind": pa.array([condition.kind] * n, pa.string()),
            "sigma": pa.array([condition.sigma] * n, pa.float64()),
            "probabilities": pa.FixedSizeListArray.from_arrays(
                pa.array(probabilities.astype(np.float32).ravel()), len(classes)
            ),
        }
        tables.append(pa.table(columns))
    pq.write_table(pa.concat_tables(tables), file)


def write_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write record.json into a run's folder: the facts, and checksums of the run's other files."""
    files = {file.name: sha256_of(file) for file in sorted(folder.iterdir()) if file.is_file()}
    (folder / RECORD).write_text(seal({**facts, "files": files}), encoding="utf-8")


def require_store(record: Record) -> CellStore:
    """The store that holds a run's cells, where the run had it; raises ValueError if it is not there."""
    store_dir = Path(record.settings.data.loading.store_dir)
    store = find_store(store_dir, record.data.fingerprint)
    if store is None:
        raise ValueError(
            f"{record.run}: no store in {store_dir} holds its cells: the command that trained it prepares one"
        )
    return store
