"""Tables as files: CSV for machines, Markdown for a page, LaTeX (booktabs) for a paper."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cellpatch.runtime.atomic_io import atomic_write

_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


def format_ci(value: float, low: float, high: float, digits: int = 3, sign: str = "") -> str:
    """A value with the ends of its interval, if there is one; with `sign="+"` their signs are always told.

    Ends that are equal are no interval: all draws were, and say nothing of others.
    """
    told, *ends = (f"{number:{sign}.{digits}f}" for number in (value, low, high))
    return f"{told} ({' to '.join(ends)})" if low < high else told


def to_markdown(shown: pd.DataFrame) -> str:
    """A table of words as Markdown."""
    lines = [list(map(str, shown.columns)), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def write_table(stem: Path, numbers: pd.DataFrame, shown: pd.DataFrame, notes: Sequence[str] = ()) -> list[Path]:
    """Write the numbers as STEM.csv and the words as STEM.md and STEM.tex; print the Markdown and give the files.

    `shown` has a word in each place, with the digits that are meant to be read; notes are lines below it.
    """
    markdown = "\n".join([to_markdown(shown), *(f"\n* {note}" for note in notes)])
    print(markdown)
    latex = shown.astype(str).to_latex(index=False, escape=True)
    latex += "".join(f"\\par{{\\footnotesize {note.translate(_LATEX)}}}\n" for note in notes)
    files = []
    for suffix, content in ((".csv", numbers.to_csv(index=False)), (".md", markdown + "\n"), (".tex", latex)):
        files.append(stem.with_name(stem.name + suffix))
        with atomic_write(files[-1]) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return files
