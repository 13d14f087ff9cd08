"""Read annotation tables and check their columns, naming file and row."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpatch.runtime.error_collector import ErrorCollector

log = logging.getLogger(__name__)

_TEXT = ("cell_id", "class", "specimen", "image", "path", "split")


def read_table(file: Path, required: Sequence[str], name: str | None = None) -> pd.DataFrame:
    """Read CSV, TSV or Parquet, and add `where`: file and row, as a text editor counts (the header is row 1).

    Text is stripped. Rows whose `required` columns (none: all columns) are empty are left out. `name` is the file's
    name in `where`. Raises ValueError if the file is missing, empty, unreadable or lacks a column, or a required value
    is empty.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such table")
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file, dtype_backend="numpy_nullable")
        else:
            table = _read_csv(file)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:  # pandas' and pyarrow's are ValueErrors
        raise ValueError(f"{file}: cannot be read as a table ({error})") from error
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise ValueError(f"{file}: lacks column {missing}; needed are {list(required)}, found {list(table.columns)}")
    table["where"] = [f"{name or file.name}, row {row}" for row in range(2, len(table) + 2)]
    for column in set(_TEXT) & set(table.columns):
        table[column] = [None if pd.isna(value) else str(value).strip() for value in table[column]]
    content = table[list(required) or table.columns.drop("where")]
    blank = (content.isna() | (content == "")).all(axis=1)
    table = table[~blank].reset_index(drop=True)
    if table.empty:
        raise ValueError(f"{file}: has no rows")
    check_filled(table, [*required, *({"specimen", "cell_id", "split"} & set(table.columns) - set(required))])
    return table


def _read_csv(file: Path) -> pd.DataFrame:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    options: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "dtype": str, "keep_default_na": False}
    header = pd.read_csv(file, header=None, nrows=1, **options).iloc[0].tolist()
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise ValueError(f"columns {repeated} come twice")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with a field too many would shift columns
        return pd.read_csv(file, index_col=False, skip_blank_lines=False, **options)


def check_filled(table: pd.DataFrame, required: Sequence[str]) -> None:
    """Raise one ValueError that names every row with an empty required column."""
    problems = ErrorCollector()
    for column in required:
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        for where in table.loc[empty, "where"]:
            problems.add(f"{where}: column {column!r} is empty")
    problems.raise_if_any()


def check_coordinates(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with x and y as float pixels; raises ValueError on text, NaN, infinite or negative values."""
    problems = ErrorCollector()
    for name in ("x", "y"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        bad = ~(numbers >= 0) | (numbers == float("inf"))
        for where, value in zip(table.loc[bad, "where"], table.loc[bad, name], strict=True):
            problems.add(f"{where}: {name} must be a number >= 0 in pixels, but got {value}")
        table[name] = numbers.astype(float)
    problems.raise_if_any()
    return table


def check_classes(table: pd.DataFrame, classes: Sequence[str] | None) -> list[str]:
    """The classes in order: as declared, else sorted; raises ValueError on a class that was not declared."""
    if classes is None:
        return sorted(table["class"].unique())
    unknown = ~table["class"].isin(classes)
    problems = ErrorCollector()
    for where, name in zip(table.loc[unknown, "where"], table.loc[unknown, "class"], strict=True):
        problems.add(f"{where}: unknown class {name!r}; data.classes has {list(classes)}")
    problems.raise_if_any()
    return list(classes)


def warn_about_shared_images(table: pd.DataFrame) -> None:
    """Log which images have cells of several specimens: right for a tissue microarray, else probably a typing error."""
    several = table.groupby("image", sort=True)["specimen"].nunique()
    shared = list(several.index[several > 1])
    if shared:
        log.warning(
            "images with cells of several specimens: %d (%s%s); crops of one image may lie in training and in the test",
            len(shared),
            ", ".join(shared[:3]),
            ", ..." if len(shared) > 3 else "",
        )


def collect_points_outside(points: pd.DataFrame, image: str, width: int, height: int, problems: ErrorCollector) -> None:
    """Add each of the points (x, y, where) that is not on the image to `problems`."""
    outside = points[(points["x"] >= width) | (points["y"] >= height)]
    for where, x, y in zip(outside["where"], outside["x"], outside["y"], strict=True):
        problems.add(f"{where}: x={x} y={y} is outside {image} ({width}x{height} px)")
