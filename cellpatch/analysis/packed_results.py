"""Runs in one small Parquet file, a row a run: `cellpatch pack RUNS FILE.parquet`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from errno import ENOENT
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from cellpatch.analysis.compact import SparseConfusions, StoredMetrics, compress
from cellpatch.analysis.run_result import CohortResult, RunResult
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.readable import Readable, describe_problem
from cellpatch.runs.record import Record, parse_record, seal, unseal
from cellpatch.runtime.atomic_io import atomic_write

_ROW_GROUP = 100  # runs: readers and writers have as many in memory at once, beside their counts
_NO_KIND, _NO_COUNT = pa.array([], pa.string()), np.zeros(0, np.int64)
_COUNT = pa.struct(
    {"kind": pa.string(), "sigma": pa.float64(), "specimen": pa.int32(), "label": pa.int16(), "predicted": pa.int16()}
    | {"n": pa.int32()}
)
_OF_CELLS = {"specimens": pa.list_(pa.string()), "counts": pa.list_(_COUNT)}
_SCHEMA_0_6 = pa.schema({"run": pa.string(), "record": pa.string(), **_OF_CELLS})  # without a cohort, as until 0.6.0
_COHORT = pa.struct({"name": pa.string(), **_OF_CELLS})
_SCHEMA = pa.schema([*_SCHEMA_0_6, pa.field("cohorts", pa.list_(_COHORT))])
_SCHEMA_TURNED = pa.schema([*_SCHEMA, pa.field("turned", pa.list_(_COUNT))])  # test-time augmentation


def pack(results: Sequence[RunResult], file: Path) -> None:
    """Write runs as one Parquet file, a row a run; of their cells only the counts are kept."""
    schema = _SCHEMA if any(result.cohorts for result in results) else _SCHEMA_0_6
    schema = _SCHEMA_TURNED if any(result.turned for result in results) else schema
    with (
        atomic_write(file) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=19) as writer,
    ):
        for start in range(0, len(results), _ROW_GROUP):
            writer.write_table(_table(results[start : start + _ROW_GROUP], schema))


def _table(results: Sequence[RunResult], schema: pa.Schema) -> pa.Table:
    """A row a run."""
    records = [result.stored | {"config": _without_folders(result.stored["config"])} for result in results]
    cohorts = [cohort for result in results for cohort in result.cohorts.values()]
    columns = {
        "run": pa.array([result.run for result in results]),
        "record": pa.array(map(seal, records)),
        "specimens": pa.array([list(result.specimens) for result in results], schema.field("specimens").type),
        "counts": _counts([result.confusions for result in results]),
        "cohorts": pa.ListArray.from_arrays(
            np.cumsum([0, *(len(result.cohorts) for result in results)], dtype=np.int32),
            pa.StructArray.from_arrays(
                [
                    pa.array([name for result in results for name in result.cohorts], pa.string()),
                    pa.array([list(cohort.specimens) for cohort in cohorts], pa.list_(pa.string())),
                    _counts([cohort.confusions for cohort in cohorts]),
                ],
                fields=list(_COHORT),
            ),
        ),
        "turned": _counts([result.turned for result in results]),
    }
    return pa.table([columns[name] for name in schema.names], schema)


def _counts(each: Sequence[Mapping[Condition, np.ndarray]]) -> pa.ListArray:
    """For each, a row a condition, specimen, true and predicted class whose count is not zero."""
    found = [(condition, confusions) for by_condition in each for condition, confusions in by_condition.items()]
    indices = [np.nonzero(confusions) for _, confusions in found]
    lengths = [len(first) for first, *_ in indices]
    columns = [
        pa.concat_arrays([_NO_KIND, *(pa.repeat(at.kind, n) for (at, _), n in zip(found, lengths, strict=True))]),
        np.repeat([at.sigma for at, _ in found], lengths),
        *(np.concatenate([_NO_COUNT, *(axes[axis] for axes in indices)]) for axis in range(3)),
        np.concatenate([_NO_COUNT, *(confusions[at] for (_, confusions), at in zip(found, indices, strict=True))]),
    ]
    rows = [pa.array(column).cast(field.type) for column, field in zip(columns, _COUNT, strict=True)]
    ends = np.cumsum([0, *lengths])[np.cumsum([0, *map(len, each)])]
    return pa.ListArray.from_arrays(ends.astype(np.int32), pa.StructArray.from_arrays(rows, fields=list(_COUNT)))


def _without_folders(config: JsonValue) -> JsonValue:
    """A config whose absolute paths are names alone: folders of one machine mean nothing on another."""
    if isinstance(config, dict):
        return {key: _without_folders(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_without_folders(value) for value in config]
    return Path(config).name if isinstance(config, str) and Path(config).is_absolute() else config


def unpack(file: Path) -> Readable[RunResult]:
    """The runs of a packed file, with a line for each that cannot be read; raises ValueError if the file is none."""
    results, problems = list[RunResult](), list[str]()
    try:
        if not file.is_file():  # a pipe would never end
            raise FileNotFoundError(ENOENT, "there is no such file")
        with pq.ParquetFile(file) as packed:
            if packed.schema_arrow not in (_SCHEMA_TURNED, _SCHEMA, _SCHEMA_0_6):
                raise pa.ArrowInvalid(f"it has the columns {packed.schema_arrow.names}")
            for number, row in enumerate(_rows(packed)):
                try:
                    results.append(_unpack_row(row, f"{file}: row {number}"))
                except (ValueError, pa.ArrowException) as error:
                    problems.append(describe_problem(str(file), error))
    except (OSError, pa.ArrowException) as error:
        allowed = "a folder of runs or a file of cellpatch pack"
        raise ValueError(f"{file} must be {allowed}: {error}") from error
    return Readable(results, problems)


def _rows(packed: pq.ParquetFile) -> Iterator[pa.Table]:
    """A file's rows, of which a few are in memory at once, also where the file is one group of rows."""
    for batch in packed.iter_batches(batch_size=_ROW_GROUP):
        yield from (pa.Table.from_batches([batch.slice(number, 1)]) for number in range(batch.num_rows))


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
    cohorts, compressed = _unpack_cohorts(row, record, where), compress(stored)
    record = replace(record, metrics=StoredMetrics(compressed))
    return RunResult(name, record, *cells, compressed, cohorts=cohorts, turned=turned)


def _unpack_turned(row: pa.Table, record: Record, specimens: int, where: str) -> SparseConfusions:
    """Counts with test-time augmentation; raises ValueError if they are of other conditions than the record's."""
    packed: Any = row["turned"][0] if "turned" in row.column_names else []
    stated = [] if record.turned is None else [each.condition for each in record.turned.metrics]
    found = SparseConfusions({})
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
) -> tuple[tuple[str, ...], SparseConfusions]:
    names = tuple(specimens.as_py() or ())
    if None in names or len(set(names)) != len(names):
        raise ValueError(f"{where}: specimens must be different names")
    table = pa.Table.from_struct_array(counts.values).to_pandas()
    return names, _confusions(table, (len(names), n_classes, n_classes), where)


def _confusions(counts: pd.DataFrame, shape: tuple[int, int, int], where: str) -> SparseConfusions:
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
    return SparseConfusions(confusions)
