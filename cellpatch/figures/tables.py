"""Tables as files: CSV for machines, Markdown for a page, LaTeX (booktabs) for a paper."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cellpatch.analysis.groups import SeedGroup
from cellpatch.figures.captions import file_name
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.plain_text import plain
from cellpatch.runtime.spreadsheet import csv_text

MIXED_CODE = "mixed training code"  # a column of tables with a row a group, where some group's runs differ in it
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


@dataclass(frozen=True, eq=False)  # frames have no single truth value to compare by
class ShownTable:
    """A table: `shown` has words with the digits that are meant to be read, `numbers` are for machines.

    `stem` begins the names of its files. `caption` and `note` stand above it on a page, `notes` below it in its files.
    """

    stem: str
    caption: str
    shown: pd.DataFrame
    numbers: pd.DataFrame
    notes: tuple[str, ...] = ()
    note: str = ""


def mixed_code_column(groups: Sequence[SeedGroup]) -> dict[str, list[str]]:
    """The column MIXED_CODE, a word a group; no column if no group is mixed."""
    if not any(group.mixed_code for group in groups):
        return {}
    return {MIXED_CODE: ["yes" if group.mixed_code else "no" for group in groups]}


def format_ci(value: float, low: float, high: float, digits: int = 3, sign: str = "") -> str:
    """A value with the ends of its interval, if there is one; `sign="+"` always writes signs.

    Equal ends are not an interval: all draws were equal, without information about other specimens.
    """
    text, *ends = (f"{number:{sign}.{digits}f}" for number in (value, low, high))
    return f"{text} ({' to '.join(ends)})" if low < high else text


def format_score(value: float) -> str:
    """A score with three digits; `-` for NaN."""
    return "-" if np.isnan(value) else f"{value:.3f}"


def to_markdown(shown: pd.DataFrame) -> str:
    """A table of words as Markdown.

    Not by `DataFrame.to_markdown`: it leaves `|` in cells unescaped, and pads them, so that one changed cell changes
    every line of its column.
    """
    lines = [list(map(str, shown.columns)), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(_in_cell, line))} |" for line in lines)


def _in_cell(text: str) -> str:
    """Text of a cell on one line, where what would begin HTML, a link or an image is shown as it is."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain(" ".join(text.split())))
    return re.sub(r"([|\[])", r"\\\1", text)


def write_table(stem: Path, numbers: pd.DataFrame, shown: pd.DataFrame, notes: Sequence[str] = ()) -> list[Path]:
    """Write the numbers as STEM.csv and the words as STEM.md and STEM.tex, notes below; print the Markdown.

    Gives the paths of the files.
    """
    markdown = "\n".join([to_markdown(shown), *(f"\n* {_in_cell(note)}" for note in notes)])
    print(markdown)
    latex = plain(shown.astype(str).to_latex(index=False, escape=True))
    latex += "".join(f"\\par{{\\footnotesize {note.translate(_LATEX)}}}\n" for note in notes)
    files = []
    for suffix, content in ((".csv", csv_text(numbers)), (".md", markdown + "\n"), (".tex", latex)):
        files.append(stem.with_name(stem.name + suffix))
        with atomic_write(files[-1]) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return files


def write_tables(tables: Sequence[ShownTable], data: str, folder: Path = Path("tables")) -> list[Path]:
    """Write tables of a data set as FOLDER/STEM-DATA.csv, .md and .tex; gives the paths of the files."""
    files = []
    for table in tables:
        files += write_table(folder / file_name(table.stem, data), table.numbers, table.shown, table.notes)
    return files
