"""What figures and tables read: each run's record, and its test cells counted by specimen, class and prediction.

python -m cellpatch.results RUNS_DIR FILE.parquet     packs a runs directory into one small file
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from cellpatch.metrics.scores import confusions_by_specimen
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.coordinates import grid_coordinates
from cellpatch.runs.record import predictions_by_condition, read_record, seal, unseal
from cellpatch.runtime.atomic_io import atomic_write

Confusions = Int[np.ndarray, "specimens classes classes"]


@dataclass(frozen=True, eq=False)  # a run is itself: no two are compared by what they hold
class RunResult:
    """One run: its record, its test specimens' sorted names, and of each condition their confusion matrices."""

    run: str
    record: Mapping[str, Any]
    specimens: tuple[str, ...]
    confusions: Mapping[Condition, Confusions]

    @cached_property
    def about(self) -> dict[str, Any]:
        """Its place in a grid, as in `cellpatch.runs.AXES`, and `n_train`."""
        return grid_coordinates(self.record["config"]) | {"n_train": sum(self.record["counts"]["train"].values())}

    @cached_property
    def cells(self) -> str:
        """What the test cells are: runs that agree in it can be compared cell by cell."""
        clean = self.confusions[CLEAN].sum(axis=2)
        return json.dumps([self.record["data"]["fingerprint"], self.record["config"]["data"]["split"], clean.tolist()])


def read_results(place: Path) -> list[RunResult]:
    """The runs of a runs directory, or of a file that `pack` wrote, by name.

    Raises ValueError if there are none, or if a run is not as it was written.
    """
    if place.is_dir():
        with ThreadPoolExecutor() as threads:
            results = list(threads.map(_of_run, sorted(file.parent for file in place.glob("[!.]*/record.json"))))
    else:
        results = _unpack(place)
    if not results:
        raise ValueError(f"{place} holds no finished run: train some first, e.g. make run")
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
        record = dict(result.record) | {"config": _without_folders(result.record["config"])}
        rows.append({"run": result.run, "record": seal(record), "specimens": list(result.specimens), "counts": counts})
    with atomic_write(file) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary, compression="zstd", compression_level=19)


def _without_folders(config: Any) -> Any:
    """A config whose absolute paths are names alone: where files lay on one machine means nothing on another."""
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


def _of_run(run: Path) -> RunResult:
    record = read_record(run)
    n_classes = len(record["classes"])
    confusions, names = {}, list[str]()
    for condition, (rows, labels, probabilities) in predictions_by_condition(run).items():
        names = sorted(rows["specimen"].unique())
        predicted = probabilities.argmax(axis=1)
        counts = confusions_by_specimen(labels, predicted, rows["specimen"], n_classes)
        confusions[condition] = counts.astype(np.int32)  # half the memory of hundreds of runs
    return RunResult(run.name, record, tuple(names), confusions)


def _sparse(confusions: Confusions) -> list[list[int]]:
    places = np.nonzero(confusions)
    return np.stack([*places, confusions[places]], axis=1).tolist()


def _unpack(file: Path) -> list[RunResult]:
    try:
        table = pq.read_table(file)
        if table.schema != _SCHEMA:
            raise pa.ArrowInvalid(f"it has the columns {table.column_names}")
    except (OSError, pa.ArrowInvalid) as error:
        allowed = "a folder of runs or a file of python -m cellpatch.results"
        raise ValueError(f"{file} must be {allowed}: {error}") from error
    results = []
    for row in range(table.num_rows):
        name = table["run"][row].as_py()
        record = unseal(table["record"][row].as_py(), f"{file}: the record of {name}")
        specimens = tuple(table["specimens"][row].as_py())
        counts = pa.Table.from_struct_array(table["counts"][row].values).to_pandas()
        shape = (len(specimens), len(record["classes"]), len(record["classes"]))
        confusions = {}
        for (kind, sigma), group in counts.groupby(["kind", "sigma"], sort=False):
            dense = np.zeros(shape, np.int32)
            dense[tuple(group[key].to_numpy() for key in ("specimen", "label", "predicted"))] = group["n"]
            confusions[Condition(str(kind), float(sigma))] = dense
        results.append(RunResult(name, record, specimens, confusions))
    return results
