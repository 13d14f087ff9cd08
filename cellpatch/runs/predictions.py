"""Predicted cells as files of a run hold them, checked when they are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from cellpatch.optics.conditions import Condition

COLUMNS = ["cell_id", "specimen", "label", "kind", "sigma", "probabilities"]
_FEW = ["specimen", "kind"]  # of few values: read as categories, they are compared ten times as fast
_TOLERANCE = 1e-3  # of the sum of a cell's probabilities: they are stored in 32 bits


class Predictions(NamedTuple):
    """Predicted cells: their rows (cell_id, specimen, ...), labels as class indices, probabilities."""

    rows: pd.DataFrame
    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]


def read_predictions(files: Sequence[Path], classes: Sequence[str]) -> Mapping[Condition, Predictions]:
    """The predictions of some files by condition.

    Raises ValueError that names the file for one that cannot be read, without rows, with other columns, classes or
    missing values, or with probabilities that are none.
    """
    table = pa.concat_tables([_read(file, classes) for file in files]).unify_dictionaries()
    probabilities = _probabilities(table)
    rows = table.drop_columns(["probabilities"]).to_pandas()
    code = {name: i for i, name in enumerate(classes)}
    labels = np.array([code.get(name, -1) for name in rows["label"].cat.categories])[rows["label"].cat.codes]
    predictions = {}
    for kind, sigma in rows[["kind", "sigma"]].drop_duplicates().itertuples(index=False, name=None):
        selected = ((rows["kind"] == kind) & (rows["sigma"] == sigma)).to_numpy()
        predictions[Condition(kind, sigma)] = Predictions(rows[selected], labels[selected], probabilities[selected])
    return predictions


def read_columns(file: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file, as categories; raises ValueError that names the file if it has no such columns."""
    table = _open(file, columns, read_dictionary=columns)
    missing = [name for name in columns if name not in table.column_names or table[name].null_count]
    if missing:
        raise ValueError(f"{file}: column {missing[0]} is missing, or empty in some rows")
    return table


def _read(file: Path, classes: Sequence[str]) -> pa.Table:
    table = _open(file, None, read_dictionary=_FEW)
    if table.column_names != COLUMNS:
        raise ValueError(f"{file}: columns must be {COLUMNS}, but got {table.column_names}")
    if not len(table):
        raise ValueError(f"{file}: it has no rows")
    empty = [name for name in COLUMNS if table[name].null_count]
    if empty:
        raise ValueError(f"{file}: column {empty[0]} is empty in {table[empty[0]].null_count} rows")
    wanted = _schema(len(classes))
    if not all(_is_alike(field.type, wanted.field(field.name).type) for field in table.schema):
        raise ValueError(f"{file}: columns must be {_in_words(wanted)}, but got {_in_words(table.schema)}")
    unknown = sorted(set(table["label"].unique().to_pylist()) - set(classes))
    if unknown:
        raise ValueError(f"{file}: labels must be of {list(classes)}, but got {unknown[:5]}")
    found = _probabilities(table)
    sums = found.sum(axis=1, dtype=np.float64)
    wrong = ~(np.isfinite(sums) & (found >= 0).all(axis=1) & (abs(sums - 1) < _TOLERANCE))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"{file}: probabilities must be >= 0 and sum to 1, but row {row} has {found[row].tolist()}")
    return table


def _open(file: Path, columns: Sequence[str] | None, read_dictionary: Sequence[str]) -> pa.Table:
    try:
        return pq.read_table(file, columns=columns, read_dictionary=list(read_dictionary), partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{file} cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def _probabilities(table: pa.Table) -> Float[np.ndarray, "n classes"]:
    column = table["probabilities"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def _schema(n_classes: int) -> pa.Schema:
    text = pa.dictionary(pa.int32(), pa.string())
    types = [pa.string(), text, text, text, pa.float64(), pa.list_(pa.float32(), n_classes)]
    return pa.schema(list(zip(COLUMNS, types, strict=True)))


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column has the type that it is written with; one of few values is a dictionary."""
    if pa.types.is_dictionary(wanted):
        return pa.types.is_dictionary(found) and pa.types.is_string(found.value_type)
    if pa.types.is_fixed_size_list(wanted):
        return pa.types.is_fixed_size_list(found) and (found.list_size, found.value_type) == (
            wanted.list_size,
            wanted.value_type,
        )
    return bool(found == wanted)


def _in_words(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
