"""Read annotation tables and check their columns, naming file and row."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cellpatch.data.problems import Problems


def read_table(file: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read CSV, TSV or Parquet, and add `where`: file and row, as a text editor counts (the header is row 1).

    Raises ValueError if the file is absent, empty, unreadable or lacks a column, or a required cell is empty.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such table")
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file)
        else:
            separator = "\t" if file.suffix.lower() == ".tsv" else ","
            text = dict.fromkeys(("cell_id", "class", "specimen", "image", "path", "split"), str)
            table = pd.read_csv(file, sep=separator, dtype=text, encoding="utf-8-sig", keep_default_na=False)
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        OSError,
        ValueError,
    ) as error:
        raise ValueError(f"{file}: cannot be read as a table ({error})") from error
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise ValueError(f"{file}: lacks column {missing}; needed are {list(required)}, found {list(table.columns)}")
    if table.empty:
        raise ValueError(f"{file}: has no rows")
    table["where"] = [f"{file.name}, row {row}" for row in range(2, len(table) + 2)]
    check_filled(table, required)
    return table


def check_filled(table: pd.DataFrame, required: Sequence[str]) -> None:
    """Raise one ValueError that names every row with an empty required column."""
    problems = Problems()
    for name in required:
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        for where in table.loc[empty, "where"]:
            problems.add(f"{where}: column {name!r} is empty")
    problems.raise_if_any()


def check_coordinates(table: pd.DataFrame) -> pd.DataFrame:
    """Give the table with x and y as float pixels; raises ValueError on text, NaN, infinite or negative values."""
    problems = Problems()
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
    problems = Problems()
    for where, name in zip(table.loc[unknown, "where"], table.loc[unknown, "class"], strict=True):
        problems.add(f"{where}: unknown class {name!r}; data.classes has {list(classes)}")
    problems.raise_if_any()
    return list(classes)
