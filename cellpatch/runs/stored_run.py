"""A finished run on disk: record.json, predictions.parquet, validation.parquet, weights.safetensors."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from errno import ENOENT
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
from cellpatch.runs.cohorts import Cohort
from cellpatch.runs.condition_scores import ConditionScores, metrics_row
from cellpatch.runs.folders import RECORD
from cellpatch.runs.predictions import Predictions, read_columns, read_predictions
from cellpatch.runs.record import Record, parse_record, seal, unseal
from cellpatch.runs.record_checks import check_stored
from cellpatch.runs.turned import TurnedScores
from cellpatch.runtime.atomic_io import atomic_write, sha256_of
from cellpatch.runtime.json_types import Json

PREDICTIONS, VALIDATION = "predictions.parquet", "validation.parquet"  # of test cells, of clean validation cells
WEIGHTS = "weights.safetensors"
COHORT = "cohort-"  # with a number, of the cells of an external cohort
TURNED = "turned-"  # with a number, of test cells with test-time augmentation


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
            if not (folder / RECORD).is_file():  # a pipe would never end
                raise FileNotFoundError(ENOENT, "there is no such file")
            text = (folder / RECORD).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ValueError(f"{where} cannot be read ({_reason(error)}){_hint(folder)}") from error
        stored = unseal(text, where)
        record = parse_record(stored, where)
        try:
            check_stored(record.identity, record.settings.config, record.files, (PREDICTIONS, WEIGHTS))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return cls(folder, record, stored)

    def check_files(self, names: Sequence[str] | None = None) -> None:
        """Raise ValueError if one of the record's files, or one of `names`, is missing, unreadable or changed."""
        for name in self.record.files if names is None else names:
            file = self.folder / name
            try:
                as_stated = file.parent == self.folder and file.is_file() and sha256_of(file) == self.record.files[name]
            except OSError as error:
                raise ValueError(f"{file} cannot be read ({_reason(error)})") from error
            if not as_stated:
                raise ValueError(f"{self.folder}: {name} is missing or not as the record states; the run is unusable")

    @cached_property
    def predictions(self) -> Mapping[Condition, Predictions]:
        """The test cells' predictions under each condition, later evaluations included.

        Raises ValueError for files that are not as the record states, and for what `read_predictions` refuses.
        """
        found = self._read(PREDICTIONS)
        stated = {row.condition: row.scores.n_test for row in self.record.metrics}
        counts = {condition: len(each.labels) for condition, each in found.items()}
        if counts != stated:
            listed = [", ".join(f"{n} {condition}" for condition, n in each.items()) for each in (stated, counts)]
            raise ValueError(
                f"{self.folder}: predictions must be of as many cells as metrics: {' but got '.join(listed)}"
            )
        return found

    @property
    def clean_predictions(self) -> Predictions:
        """The test cells' predictions on clean crops."""
        return self.predictions[CLEAN]

    @cached_property
    def validation(self) -> Mapping[Condition, Predictions]:
        """The clean validation cells' predictions; empty for versions that did not store them."""
        return self._read(VALIDATION) if VALIDATION in self.record.files else {}

    @cached_property
    def cohort_predictions(self) -> Mapping[str, Mapping[Condition, Predictions]]:
        """The predictions of each external cohort's cells, by its name; raises ValueError as `predictions`."""
        cohorts = self.record.cohorts
        return {cohort.name: self._read_evaluation(cohort.file, cohort.metrics, cohort.name) for cohort in cohorts}

    @cached_property
    def turned_predictions(self) -> Mapping[Condition, Predictions]:
        """The same with test-time augmentation, empty without; raises ValueError as `predictions`."""
        turned = self.record.turned
        return {} if turned is None else self._read_evaluation(turned.file, turned.metrics, "turned")

    def _read_evaluation(
        self, name: str, metrics: Sequence[ConditionScores], of: str
    ) -> Mapping[Condition, Predictions]:
        self.check_files([name])
        found = read_predictions([self.folder / name], self.record.classes)
        stated = {row.condition: row.scores.n_test for row in metrics}
        if stated != {condition: len(each.labels) for condition, each in found.items()}:
            raise ValueError(f"{self.folder / name}: predictions must be of as many cells as the metrics of {of}")
        return found

    @cached_property
    def specimens_by_class(self) -> dict[str, int] | None:
        """In how many specimens each class has a test cell; None if the predictions are missing.

        Raises ValueError if they were changed.
        """
        if not (self.folder / PREDICTIONS).is_file():
            return None
        self.check_files([PREDICTIONS])
        cells = read_columns(self.folder / PREDICTIONS, ["specimen", "label"]).to_pandas()
        counts = cells.drop_duplicates()["label"].value_counts()
        return {name: int(counts.get(name, 0)) for name in self.record.classes}

    def _read(self, first: str) -> Mapping[Condition, Predictions]:
        """Files that the record names: another may be what an interrupted evaluation left."""
        names = [name for name in self.record.files if name.startswith(first.removesuffix(".parquet"))]
        self.check_files(names)
        return read_predictions([self.folder / name for name in names], self.record.classes)

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

    def with_cohort(
        self,
        cohort: Cohort,
        cells: pd.DataFrame,
        labels: Int[np.ndarray, " n"],
        predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    ) -> "StoredRun":
        """Add an external cohort, in place of one of the same name; first its predictions, then the record.

        `cohort.file` is chosen here.
        """
        file = self._write_predictions(COHORT, cells, labels, predicted)
        others = [each for each in self.record.cohorts if each.name != cohort.name]
        replaced = {each.file for each in self.record.cohorts if each.name == cohort.name}
        cohorts = [each.as_json() for each in [*others, replace(cohort, file=file.name)]]
        return self._exchange(file, replaced, cohorts=cohorts)

    def with_turned(
        self,
        turned: TurnedScores,
        cells: pd.DataFrame,
        labels: Int[np.ndarray, " n"],
        predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    ) -> "StoredRun":
        """State scores with test-time augmentation, in place of earlier ones; `turned.file` is chosen here."""
        file = self._write_predictions(TURNED, cells, labels, predicted)
        replaced = set() if self.record.turned is None else {self.record.turned.file}
        return self._exchange(file, replaced, turned=replace(turned, file=file.name).as_json())

    def _write_predictions(
        self,
        prefix: str,
        cells: pd.DataFrame,
        labels: Int[np.ndarray, " n"],
        predicted: Mapping[Condition, Float[np.ndarray, "n classes"]],
    ) -> Path:
        """Write them to a file whose number is higher than those of the record."""
        found = [re.fullmatch(rf"{prefix}(\d{{1,9}})\.parquet", name) for name in self.record.files]
        number = max((int(match[1]) for match in found if match), default=0) + 1
        file = self.folder / f"{prefix}{number}.parquet"
        with atomic_write(file) as temporary:
            write_predictions(temporary, cells, labels, predicted, self.record.classes)
        return file

    def _exchange(self, file: Path, replaced: set[str], **facts: Any) -> "StoredRun":
        """Add a written file and facts to the record, then remove the files that it replaces."""
        files = {name: digest for name, digest in self.record.files.items() if name not in replaced}
        run = self._replace(files={**files, file.name: sha256_of(file)}, **facts)
        for name in replaced:
            (self.folder / name).unlink(missing_ok=True)
        return run

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


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _hint(folder: Path) -> str:
    """Where runs are, if a folder of them was named in place of one."""
    runs = sorted(file.parent for file in folder.glob(f"*/{RECORD}"))
    return f"; it holds runs, such as {runs[0]}" if runs else ""


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
