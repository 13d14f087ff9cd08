"""What figures and tables read: each run's record, and its test cells counted by specimen, class and prediction.

`cellpatch pack RUNS FILE.parquet` packs a runs directory into one small file.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from json import dumps
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int
from pydantic import JsonValue

from cellpatch.metrics.scores import confusions_by_specimen
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.coordinates import RunCoordinates
from cellpatch.runs.folders import require_runs
from cellpatch.runs.identity import effective_split
from cellpatch.runs.record import Record, parse_record, seal, unseal
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.json_types import Json

Confusions = Int[np.ndarray, "specimens classes classes"]


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: caches of scores use it as their key
class RunResult:
    """One run: its record, the sorted names of its test specimens, and their confusion matrices by condition.

    Rows of a confusion matrix are true classes, columns predicted ones. `stored` is the record as it was written.
    `folder` is where the run lies, None if it was packed.
    """

    run: str
    record: Record
    specimens: tuple[str, ...]
    confusions: Mapping[Condition, Confusions]
    stored: Json = field(repr=False)
    folder: Path | None = None

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
        split = effective_split(self.record.settings)
        return dumps([self.record.data.fingerprint, split, counts.tolist()], sort_keys=True)


def read_results(*paths: Path) -> list[RunResult]:
    """The runs that `paths` name: runs, folders of runs, and files that `pack` wrote.

    Among several paths what is none of these is skipped. Raises ValueError if there are no runs, or if a run was
    changed since it was written.
    """
    packed = [path for path in paths if not path.is_dir() and (len(paths) == 1 or path.suffix == ".parquet")]
    results = [result for file in packed for result in _unpack(file)]
    others = [path for path in paths if path not in packed]
    if others:
        with ThreadPoolExecutor() as threads:
            results += threads.map(_read_run, require_runs(others))
    if not results:
        raise ValueError(f"{', '.join(map(str, paths))} has no finished run: train some first, e.g. make run")
    return results


def pack(results: Sequence[RunResult], file: Path) -> None:
    """Write runs as one Parquet file, a row a run; of their cells only the counts are kept."""
    rows = []
    for result in results:
        counts = [
            {"kind": condition.kind, "sigma": condition.sigma, "specimen": s, "label": t, "predicted": p, "n": n}
            for condition, confusions in result.confusions.items()
            for s, t, p, n in _sparse(confusions)
        ]
        record = result.stored | {"config": _without_folders(result.stored["config"])}
        rows.append({"run": result.run, "record": seal(record), "specimens": list(result.specimens), "counts": counts})
    with atomic_write(file) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary, compression="zstd", compression_level=19)


def _without_folders(config: JsonValue) -> JsonValue:
    """A config whose absolute paths are names alone: folders of one machine mean nothing on another."""
    if isinstance(config, dict):
        return {key: _without_folders(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_without_folders(value) for value in config]
    return Path(config).name if isinstance(config, str) and Path(config).is_absolute() else config


_COUNT = {"kind": pa.string(), "sigma": pa.float64(), "specimen": pa.int32(), "label": pa.int16()}
_COUNT |= {"predicted": pa.int16(), "n": pa.int32()}
_SCHEMA = pa.schema(
    {
        "run": pa.string(),
        "record": pa.string(),
        "specimens": pa.list_(pa.string()),
        "counts": pa.list_(pa.struct(_COUNT)),
    }
)


def _read_run(folder: Path) -> RunResult:
    run = StoredRun.open(folder)
    n_classes = len(run.record.classes)
    confusions, names = {}, list[str]()
    for condition, (rows, labels, probabilities) in run.predictions.items():
        names = sorted(rows["specimen"].unique())
        predicted = probabilities.argmax(axis=1)
        counts = confusions_by_specimen(labels, predicted, rows["specimen"], n_classes)
        confusions[condition] = counts.astype(np.int32)  # half the memory of hundreds of runs
    return RunResult(run.name, run.record, tuple(names), confusions, run.stored, folder)


def _sparse(confusions: Confusions) -> list[list[int]]:
    """Specimen, true class, predicted class and count of each entry that is not zero."""
    indices = np.nonzero(confusions)
    return np.stack([*indices, confusions[indices]], axis=1).tolist()


def _unpack(file: Path) -> list[RunResult]:
    try:
        table = pq.read_table(file)
        if table.schema != _SCHEMA:
            raise pa.ArrowInvalid(f"it has the columns {table.column_names}")
    except (OSError, pa.ArrowInvalid) as error:
        allowed = "a folder of runs or a file of cellpatch pack"
        raise ValueError(f"{file} must be {allowed}: {error}") from error
    return [_unpack_row(table.slice(row, 1), file) for row in range(table.num_rows)]


def _unpack_row(row: pa.Table, file: Path) -> RunResult:
    name = row["run"][0].as_py()
    where = f"{file}: the record of {name}"
    stored = unseal(row["record"][0].as_py(), where)
    record = parse_record(stored, where)
    specimens = tuple(row["specimens"][0].as_py())
    counts = pa.Table.from_struct_array(row["counts"][0].values).to_pandas()
    shape = (len(specimens), len(record.classes), len(record.classes))
    confusions = {}
    for (kind, sigma), rows in counts.groupby(["kind", "sigma"], sort=False):
        dense = np.zeros(shape, np.int32)
        dense[tuple(rows[key].to_numpy() for key in ("specimen", "label", "predicted"))] = rows["n"]
        confusions[Condition(str(kind), float(sigma))] = dense
    return RunResult(name, record, specimens, confusions, stored)
