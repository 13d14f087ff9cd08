"""What figures and tables read: each run's record, and its test cells counted by specimen, class and prediction.

`cellpatch pack RUNS FILE.parquet` packs a runs directory into one small file.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from errno import ENOENT
from functools import cached_property
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int
from pydantic import JsonValue

from cellpatch.data.splitter import HeldOutFold
from cellpatch.metrics.scores import confusions_by_specimen
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.coordinates import RunCoordinates
from cellpatch.runs.folders import require_runs
from cellpatch.runs.identity import effective_split
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.readable import Readable, describe_problem, read_each
from cellpatch.runs.record import Record, parse_record, seal, unseal
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.json_types import Json

Confusions = Int[np.ndarray, "specimens classes classes"]


@dataclass(frozen=True, eq=False)
class CohortResult:
    """A run's predictions of an external cohort: the sorted names of its specimens, confusion matrices by condition."""

    specimens: tuple[str, ...]
    confusions: Mapping[Condition, Confusions]


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: caches of scores use it as their key
class RunResult:
    """One run: its record, the sorted names of its test specimens, and their confusion matrices by condition.

    Rows of a confusion matrix are true classes, columns predicted ones. `stored` is the record as it was written.
    `folder` is where the run lies, None if it was packed. `folds` are the runs that `pool_folds` made it of. `cohorts`
    are the external cohorts that it was evaluated on, by name. `turned` has the confusion matrices with test-time
    augmentation, empty without.
    """

    run: str
    record: Record
    specimens: tuple[str, ...]
    confusions: Mapping[Condition, Confusions]
    stored: Json = field(repr=False)
    folder: Path | None = None
    folds: tuple["RunResult", ...] = field(default=(), repr=False)
    cohorts: Mapping[str, CohortResult] = field(default_factory=dict, repr=False)
    turned: Mapping[Condition, Confusions] = field(default_factory=dict, repr=False)

    @property
    def trainings(self) -> tuple["RunResult", ...]:
        """The run itself, or its folds: each is one training."""
        return self.folds or (self,)

    @property
    def held_out_fold(self) -> HeldOutFold | None:
        """The fold of specimens that it tested; None for a split without folds, and for pooled ones."""
        return None if self.record.audit is None else self.record.audit.held_out_fold

    @property
    def coordinates(self) -> RunCoordinates:
        """Where it stands in a grid."""
        return self.record.settings.coordinates

    @property
    def n_train(self) -> int:
        """Training cells of all classes."""
        return self.record.n_train

    @property
    def name(self) -> str:
        """The run, as folders name it."""
        return self.run

    @property
    def specimens_by_class(self) -> dict[str, int]:
        """In how many test specimens each class lies."""
        present = self.confusions[CLEAN].sum(axis=2) > 0
        return dict(zip(self.record.classes, present.sum(axis=0).tolist(), strict=True))

    @cached_property
    def test_set_key(self) -> str:
        """Identifies the test cells: runs with the same key can be compared cell by cell."""
        counts = self.confusions[CLEAN].sum(axis=2)
        return dumps([self.record.data.fingerprint, self._split, counts.tolist()], sort_keys=True)

    @cached_property
    def cells_key(self) -> str:
        """Identifies the test cells whatever their crops show: at several fields they have the same key."""
        counts = self.confusions[CLEAN].sum(axis=2)
        return dumps([self.record.classes, self.specimens, self._split, counts.tolist()], sort_keys=True)

    @cached_property
    def folds_key(self) -> str:
        """Identifies the cells and how they are parted into folds: runs of the folds of one study have the same key."""
        split = {key: value for key, value in self._split.items() if key != "fold"}
        return dumps([self.record.data.fingerprint, split], sort_keys=True)

    @property
    def _split(self) -> Json:
        split = effective_split(self.record.settings)
        return {key: value for key, value in split.items() if key != "fold"} if self.folds else split


def read_results(*paths: Path) -> list[RunResult]:
    """The runs that `paths` name: runs, folders of runs, and files that `pack` wrote.

    Among several paths what is none of these is skipped. Raises ValueError if there are no runs, and one that lists
    every run that cannot be read: numbers of a study must not depend on which of its runs are damaged.
    """
    results = list(readable_results(*paths).all_runs())
    if not results:
        raise ValueError(f"{', '.join(map(str, paths))} has no finished run: train some first, e.g. make run")
    return results


def readable_results(*paths: Path) -> Readable[RunResult]:
    """As `read_results`, with a line for each run that cannot be read in place of an error."""
    packed = [path for path in paths if not path.is_dir() and (len(paths) == 1 or path.suffix == ".parquet")]
    results, problems = list[RunResult](), list[str]()
    for file in packed:
        found = _unpack(file)
        results += found.runs
        problems += found.problems
    others = [path for path in paths if path not in packed]
    if others:
        with ThreadPoolExecutor() as threads:
            each = list(threads.map(lambda folder: read_each([folder], _read_run), require_runs(others)))
        results += [run for found in each for run in found.runs]
        problems += [problem for found in each for problem in found.problems]
    return Readable(results, problems)


def pack(results: Sequence[RunResult], file: Path) -> None:
    """Write runs as one Parquet file, a row a run; of their cells only the counts are kept."""
    rows = []
    for result in results:
        record = result.stored | {"config": _without_folders(result.stored["config"])}
        cohorts = [
            {"name": name, "specimens": list(cohort.specimens), "counts": _rows(cohort.confusions)}
            for name, cohort in result.cohorts.items()
        ]
        row = {"run": result.run, "record": seal(record), "specimens": list(result.specimens)}
        rows.append(row | {"counts": _rows(result.confusions), "cohorts": cohorts, "turned": _rows(result.turned)})
    schema = _SCHEMA if any(result.cohorts for result in results) else _SCHEMA_0_6
    schema = _SCHEMA_TURNED if any(result.turned for result in results) else schema
    with atomic_write(file) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary, compression="zstd", compression_level=19)


def _rows(by_condition: Mapping[Condition, Confusions]) -> list[Json]:
    """A row a condition, specimen, true and predicted class."""
    return [
        {"kind": condition.kind, "sigma": condition.sigma, "specimen": s, "label": t, "predicted": p, "n": n}
        for condition, confusions in by_condition.items()
        for s, t, p, n in _sparse(confusions)
    ]


def _without_folders(config: JsonValue) -> JsonValue:
    """A config whose absolute paths are names alone: folders of one machine mean nothing on another."""
    if isinstance(config, dict):
        return {key: _without_folders(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_without_folders(value) for value in config]
    return Path(config).name if isinstance(config, str) and Path(config).is_absolute() else config


_COUNT = {"kind": pa.string(), "sigma": pa.float64(), "specimen": pa.int32(), "label": pa.int16()}
_COUNT |= {"predicted": pa.int16(), "n": pa.int32()}
_OF_CELLS = {"specimens": pa.list_(pa.string()), "counts": pa.list_(pa.struct(_COUNT))}
_SCHEMA_0_6 = pa.schema({"run": pa.string(), "record": pa.string(), **_OF_CELLS})  # without a cohort, as until 0.6.0
_COHORT = pa.struct({"name": pa.string(), **_OF_CELLS})
_SCHEMA = pa.schema([*_SCHEMA_0_6, pa.field("cohorts", pa.list_(_COHORT))])
_SCHEMA_TURNED = pa.schema([*_SCHEMA, pa.field("turned", pa.list_(pa.struct(_COUNT)))])  # test-time augmentation


def _read_run(folder: Path) -> RunResult:
    run = StoredRun.open(folder)
    n_classes = len(run.record.classes)
    specimens, confusions = _count(run.predictions, n_classes)
    cohorts = {name: CohortResult(*_count(found, n_classes)) for name, found in run.cohort_predictions.items()}
    turned = _count(run.turned_predictions, n_classes)[1]
    return RunResult(run.name, run.record, specimens, confusions, run.stored, folder, cohorts=cohorts, turned=turned)


def _count(
    predictions: Mapping[Condition, Predictions], n_classes: int
) -> tuple[tuple[str, ...], dict[Condition, Confusions]]:
    """The sorted names of the specimens, and their confusion matrices by condition."""
    confusions, names = {}, list[str]()
    for condition, (rows, labels, probabilities) in predictions.items():
        names = sorted(rows["specimen"].unique())
        predicted = probabilities.argmax(axis=1)
        counts = confusions_by_specimen(labels, predicted, rows["specimen"], n_classes)
        confusions[condition] = counts.astype(np.int32)  # half the memory of hundreds of runs
    return tuple(names), confusions


def _sparse(confusions: Confusions) -> list[list[int]]:
    """Specimen, true class, predicted class and count of each entry that is not zero."""
    indices = np.nonzero(confusions)
    return np.stack([*indices, confusions[indices]], axis=1).tolist()


def _unpack(file: Path) -> Readable[RunResult]:
    try:
        if not file.is_file():  # a pipe would never end
            raise FileNotFoundError(ENOENT, "there is no such file")
        table = pq.read_table(file, partitioning=None)
        if table.schema not in (_SCHEMA_TURNED, _SCHEMA, _SCHEMA_0_6):
            raise pa.ArrowInvalid(f"it has the columns {table.column_names}")
    except (OSError, pa.ArrowException) as error:
        allowed = "a folder of runs or a file of cellpatch pack"
        raise ValueError(f"{file} must be {allowed}: {error}") from error
    results, problems = list[RunResult](), list[str]()
    for number in range(table.num_rows):
        try:
            results.append(_unpack_row(table.slice(number, 1), f"{file}: row {number}"))
        except (ValueError, pa.ArrowException) as error:
            problems.append(describe_problem(str(file), error))
    return Readable(results, problems)


def _unpack_row(row: pa.Table, at: str) -> RunResult:
    empty = [name for name in row.column_names if row[name].null_count]
    if empty:
        raise ValueError(f"{at}: column {empty[0]} is empty")
    name = row["run"][0].as_py()
    where = f"{at}: the record of {name}"
    stored = unseal(row["record"][0].as_py(), where)
    record = parse_record(stored, where)
    cells = _unpack_cells(row["specimens"][0], row["counts"][0], len(record.classes), where)
    turned = _unpack_turned(row, record, len(cells[0]), where)
    return RunResult(name, record, *cells, stored, cohorts=_unpack_cohorts(row, record, where), turned=turned)


def _unpack_turned(row: pa.Table, record: Record, specimens: int, where: str) -> dict[Condition, Confusions]:
    """Counts with test-time augmentation; raises ValueError if they are of other conditions than the record's."""
    packed: Any = row["turned"][0] if "turned" in row.column_names else []
    stated = [] if record.turned is None else [each.condition for each in record.turned.metrics]
    found: dict[Condition, Confusions] = {}
    if len(packed):
        table = pa.Table.from_struct_array(packed.values).to_pandas()
        found = _confusions(table, (specimens, len(record.classes), len(record.classes)), where)
    if {*found} != {*stated}:
        raise ValueError(f"{where}: turned must be of {list(map(str, stated))}, but got {list(map(str, found))}")
    return found


def _unpack_cohorts(row: pa.Table, record: Record, where: str) -> dict[str, CohortResult]:
    """The external cohorts of a packed run; raises ValueError if they are others than the record's."""
    packed = row["cohorts"][0] if "cohorts" in row.column_names else []
    cohorts = {
        each["name"].as_py(): CohortResult(
            *_unpack_cells(each["specimens"], each["counts"], len(record.classes), f"{where}, {each['name']}")
        )
        for each in packed
    }
    if list(cohorts) != [cohort.name for cohort in record.cohorts]:
        raise ValueError(f"{where}: cohorts must be those of the record, but got {list(cohorts)}")
    return cohorts


def _unpack_cells(
    specimens: pa.Scalar, counts: pa.Scalar, n_classes: int, where: str
) -> tuple[tuple[str, ...], dict[Condition, Confusions]]:
    names = tuple(specimens.as_py() or ())
    if None in names or len(set(names)) != len(names):
        raise ValueError(f"{where}: specimens must be different names")
    table = pa.Table.from_struct_array(counts.values).to_pandas()
    return names, _confusions(table, (len(names), n_classes, n_classes), where)


def _confusions(counts: pd.DataFrame, shape: tuple[int, int, int], where: str) -> dict[Condition, Confusions]:
    """Confusion matrices from packed counts; raises ValueError for counts that are none, or not of clean cells too."""
    keys = ["specimen", "label", "predicted"]
    if counts.isna().to_numpy().any() or (counts["n"] < 1).any():
        raise ValueError(f"{where}: counts must be >= 1 and none missing")
    indices = counts[keys].to_numpy()
    if (indices < 0).any() or (indices >= shape).any() or counts.duplicated(["kind", "sigma", *keys]).any():
        raise ValueError(f"{where}: counts must be of {shape[0]} specimens and {shape[1]} classes, each once")
    confusions = {}
    for _, rows in counts.groupby(["kind", "sigma"], sort=False):
        dense = np.zeros(shape, np.int32)
        dense[tuple(rows[key].to_numpy() for key in keys)] = rows["n"]
        confusions[Condition(str(rows["kind"].iloc[0]), float(rows["sigma"].iloc[0]))] = dense
    if CLEAN not in confusions:
        raise ValueError(f"{where}: counts must be of clean cells too")
    return confusions
