"""Read annotation tables and check their columns, naming file and row."""

import csv
import io
import logging
import struct
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cellpatch.data.class_names import is_missing
from cellpatch.data.splitter import PARTS
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.plain_text import is_plain, plain
from cellpatch.runtime.spreadsheet import unguard

log = logging.getLogger(__name__)

_TEXT = ("cell_id", "class", "specimen", "site", "image", "path", "split")
_KNOWN = {*_TEXT, "x", "y", "x_um", "y_um"}
MAX_NAME = 200  # characters of a class, a specimen or a site: they are shown in figures and tables
_MAX_PATH = 4096
_SHOWN = 60  # characters of a wrong value
_MICRO = str.maketrans({"\u03bc": "\u00b5"})  # Greek mu is written for the micro sign
_ALIASES = {  # QuPath's tables of measurements
    "classification": "class",
    "object id": "cell_id",
    "centroid x px": "x",
    "centroid y px": "y",
    "centroid x \u00b5m": "x_um",
    "centroid y \u00b5m": "y_um",
}


def read_table(file: Path, required: Sequence[str], name: str | None = None) -> pd.DataFrame:
    """Read CSV, TSV or Parquet, and add `where`: file and row, as a text editor counts (the header is row 1).

    The separator is found by the header: comma, semicolon, tab or bar; decimals may have a comma where the separator is
    none. Lines before the header that begin with # are skipped. Known columns are found whatever their case and
    blanks; a named index of Parquet is a column. Text is stripped. Rows whose `required` columns (none: all columns)
    are empty are left out. `name` is the file's name in `where`. Raises ValueError if the file is missing, empty,
    unreadable or misses a column, or a required value is empty.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such table")
    try:
        if file.suffix.lower() == ".parquet":
            table, first = pd.read_parquet(file, dtype_backend="numpy_nullable"), 2
            if table.index.names != [None]:
                table = table.reset_index()
        else:
            table, first = _read_csv(file)
    except (OSError, ValueError, csv.Error, struct.error) as error:  # pandas' and pyarrow's are ValueErrors
        reason = str(error).removeprefix(f"{file}: ")
        raise ValueError(f"{file}: cannot be read as a table ({reason})") from error
    names = _canonical(list(table.columns), file)
    table = table.rename(columns=names)
    table.attrs["names"] = {new: str(old) for old, new in names.items() if new != old}  # what the user calls them
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise ValueError(f"{file}: has no column {missing}; needed are {list(required)}, found {list(table.columns)}")
    table["where"] = [f"{name or file.name}, row {row}" for row in range(first, len(table) + first)]
    for column in set(_TEXT) & set(table.columns):
        table[column] = [None if pd.isna(value) else str(value).strip() for value in table[column]]
    content = table[list(required) or table.columns.drop("where")]
    blank = (content.isna() | (content == "")).all(axis=1)
    table = table[~blank].reset_index(drop=True)
    if table.empty:
        raise ValueError(f"{file}: has no rows")
    optional = {"specimen", "cell_id", "split", "site"} & set(table.columns) - set(required)
    check_filled(table, [*required, *optional])
    check_text(table)
    return table


def read_points_table(file: Path, required: Sequence[str], name: str) -> pd.DataFrame:
    """A table of points; columns `x_um` and `y_um` are x and y in micrometres. See `read_table`."""
    table = read_table(file, [], name)
    in_um = {"x_um", "y_um"} <= set(table.columns) and not {"x", "y"} & set(table.columns)
    if in_um:
        required = [f"{column}_um" if column in ("x", "y") else column for column in required]
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise ValueError(
            f"{file}: has no column {missing}; needed are {list(required)}, found {list(table.columns[:-1])}: rename "
            "them in the header (QuPath's Image, Classification, Centroid X are read too, and x_um, y_um)"
        )
    check_filled(table, required)
    return table


def decode_text(file: Path) -> str:
    """A text file in UTF-8, or UTF-16 with a byte order mark; raises ValueError that names the first other byte."""
    content = file.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file}: row {row} is not UTF-8 (byte {content[error.start]:#x}); save it as 'CSV UTF-8'"
        ) from error


def _canonical(columns: list[object], file: Path) -> dict[object, str]:
    """New names of columns that mean a known one, unless a column has that name exactly."""
    renamed: dict[object, str] = {}
    for column in columns:
        plain = " ".join(str(column).translate(_MICRO).split()).lower()  # casefold would make the micro sign a mu
        name = _ALIASES.get(plain, plain)
        if name in _KNOWN and name not in columns:
            if name in renamed.values():
                raise ValueError(f"{file}: two columns mean {name}; name one of them {name!r}")
            renamed[column] = name
    return renamed


def _read_csv(file: Path) -> tuple[pd.DataFrame, int]:
    """A text table, and the row that its first cells stand in."""
    lines = list(io.StringIO(decode_text(file), newline=None))  # str.splitlines also splits at form feeds
    skipped = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    lines = lines[skipped:]
    if not lines:
        raise ValueError("it is empty")
    separator = max(",;\t|", key=lines[0].count)
    decimal_comma = separator != ","
    rows = list(csv.reader(lines, delimiter=separator, strict=True))
    header = [unguard(column.strip()) for column in rows[0]]
    width = len(header)
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    if repeated:
        raise ValueError(f"columns {repeated} come twice")
    for number, row in enumerate(rows[1:], skipped + 2):
        row += [""] * (width - len(row)) if not row else []
        if any(field.strip() for field in row[width:]) or len(row) < width:
            raise ValueError(f"row {number} has {len(row)} fields, the header {width}")
    table = pd.DataFrame([list(map(unguard, row[:width])) for row in rows[1:]], columns=header, dtype=object)
    unnamed = [i for i, column in enumerate(header) if not column and not table.iloc[:, i].str.strip().any()]
    table = table.iloc[:, [i for i in range(width) if i not in unnamed]]
    if decimal_comma:
        for column in [each for each in table if str(each).strip().casefold() in ("x", "y", "x_um", "y_um")]:
            table[column] = table[column].str.replace(r"^\s*(-?\d+),(\d+)\s*$", r"\1.\2", regex=True)
    return table, skipped + 2


def check_filled(table: pd.DataFrame, required: Sequence[str]) -> None:
    """Raise one ValueError that names every row with an empty required column."""
    problems = ErrorCollector()
    for column in required:
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        for where in table.loc[empty, "where"]:
            problems.add(f"{where}: column {column!r} is empty")
    problems.raise_if_any()


def check_text(table: pd.DataFrame) -> None:
    """Raise one ValueError that names every row whose names or paths hold control characters or are too long."""
    problems = ErrorCollector()
    for column in [each for each in _TEXT if each in table.columns]:
        wrong = {text: reason for text in table[column].unique() if (reason := _reason(column, text))}
        for where, text in zip(table["where"], table[column], strict=True) if wrong else ():
            if text in wrong:
                problems.add(f"{where}: column {column!r} {wrong[text]}, but got {plain(str(text))[:_SHOWN]!r}")
    problems.raise_if_any()


def _reason(column: str, text: object) -> str:
    """What is wrong with a name or a path; empty if nothing is."""
    if not isinstance(text, str):
        return ""
    if not is_plain(text):
        return "must be text without control characters"
    longest = MAX_NAME if column in ("class", "specimen", "site") else _MAX_PATH
    return f"must have at most {longest} characters" if len(text) > longest else ""


def check_coordinates(table: pd.DataFrame, shift: float) -> pd.DataFrame:
    """Return the table with coordinates as floats, x and y moved by `shift` pixels.

    Raises ValueError on text, NaN, infinite or negative values.
    """
    problems = ErrorCollector()
    for name in ("x", "y") if "x" in table else ("x_um", "y_um"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        bad = ~(numbers >= 0) | (numbers == float("inf"))
        unit = "pixels" if name in ("x", "y") else "micrometres"
        for where, value in zip(table.loc[bad, "where"], table.loc[bad, name], strict=True):
            problems.add(f"{where}: {name} must be a number >= 0 in {unit}, but got {value}")
        table[name] = numbers.astype(float) + (shift if name in ("x", "y") else 0.0)
    problems.raise_if_any()
    return table


def check_named(table: pd.DataFrame) -> None:
    """Raise one ValueError that names every row whose class is missing, too long or not plain text.

    The text of a missing value, such as `nan`, is a missing class.
    """
    check_text(table)
    problems = ErrorCollector()
    for where, value in zip(table["where"], table["class"], strict=True):
        if is_missing(value):
            problems.add(f"{where}: the class is missing ({value!r}); leave the row out, or give it a class")
    problems.raise_if_any()


def check_splits(table: pd.DataFrame) -> None:
    """Raise ValueError if a `split` is none of the parts."""
    problems = ErrorCollector()
    for where, split in zip(table["where"], table["split"], strict=True):
        if split not in PARTS:
            problems.add(f"{where}: split must be one of {list(PARTS)}, but got {split!r}")
    problems.raise_if_any()


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
