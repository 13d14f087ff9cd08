"""The first screen of the page for mails and talks: as Markdown, and as a picture in the size of a slide."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recommend import Answer

from cellpatch.figures.captions import file_name
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.plain_text import plain

_WIDTH_IN, _HEIGHT_IN, _DPI = 13.333, 7.5, 120  # a slide of 16:9, 1600 x 900 px
_ON_SLIDE, _SENTENCES = 4, 2  # questions, and sentences of each
_TITLE_PT, _QUESTION_PT, _TEXT_PT, _SMALL_PT = 22, 15, 13, 10
_PER_LINE, _PER_TITLE = 118, 64  # letters of _TEXT_PT and of _TITLE_PT
_LINE = 0.034  # of the height
_LEAST_Y = 0.16


@dataclass(frozen=True)
class Screen:
    """Answers of a data set and the decision at each limit, under the name of the data and what to know of them."""

    heading: str
    answers: Sequence[Answer]
    columns: list[str]
    rows: list[list[str]]


def write_markdown(screens: Mapping[str, Screen], made: str, file: Path) -> list[Path]:
    """Write the first screen of each data set; gives the path."""
    lines = [f"# Which model for these cells? {', '.join(map(_plain, screens))}", "", made]
    for screen in screens.values():
        lines += ["", f"## {_plain(screen.heading)}"]
        for answer in screen.answers:
            lines += ["", f"### {answer.question}", "", *[f"* {_plain(sentence)}" for sentence in answer.sentences]]
        lines += ["", f"| {' | '.join(map(_plain, screen.columns))} |", "|" + "---|" * len(screen.columns)]
        lines += [f"| {' | '.join(map(_plain, row))} |" for row in screen.rows]
    with atomic_write(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [file]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: class and data names may have any letters."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", plain(" ".join(text.split())))


def draw_slides(screens: Mapping[str, Screen], made: str, page: Path) -> list[Path]:
    """Draw a slide of each data set; gives the paths: PAGE.png, or PAGE-DATA.png of several."""
    files = []
    for data, screen in screens.items():
        file = page.with_suffix(".png") if len(screens) == 1 else page.with_name(f"{file_name(page.stem, data)}.png")
        figure = plt.figure(figsize=(_WIDTH_IN, _HEIGHT_IN))
        _write(figure, screen, made)
        with atomic_write(file) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)
        plt.close(figure)
        files.append(file)
    return files


def _write(figure: Figure, screen: Screen, made: str) -> None:
    """Questions and the start of their answers, as many as the slide has room for."""

    def put(y: float, text: str, size: float, **look: Any) -> None:
        figure.text(0.05, y, text, fontsize=size, va="top", parse_math=False, **look)

    title = wrap(f"Which model for these cells? {screen.heading}", _PER_TITLE)
    put(0.95, "\n".join(title), _TITLE_PT, weight="bold")
    y = 0.86 - 1.8 * _LINE * (len(title) - 1)
    for answer in screen.answers[:_ON_SLIDE]:
        put(y, answer.question, _QUESTION_PT, weight="bold", color="#0072B2")
        y -= 1.3 * _LINE
        for sentence in answer.sentences[:_SENTENCES]:
            lines = wrap(sentence, _PER_LINE)
            put(y, "\n".join(lines), _TEXT_PT, linespacing=1.2)
            y -= (len(lines) + 0.25) * _LINE
        y -= 0.4 * _LINE
        if y < _LEAST_Y:
            break
    put(0.045, f"{made} All answers and their evidence are in the page.", _SMALL_PT, color="0.35")
