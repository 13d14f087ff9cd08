"""One page to send to a colleague: the recommendation, its evidence, every figure and table, cells, sources.

    cellpatch report runs          # writes report.html, .md, .png; or: make report RUNS=runs

The page opens from disk without a network. Cells are shown where the crops are on this machine; all else needs the runs
alone. Tables with more than LONG rows are files beside it too, because paper leaves them out. The first screen is
written as Markdown and as a picture in the size of a slide as well.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import make_all
from first_screen import Screen, draw_slides, write_markdown
from galleries import Gallery, galleries_of
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from recommend import Answer, recommend

from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.run_result import RunResult
from cellpatch.cli.figures import figure_main
from cellpatch.figures.captions import file_name, sample_size_caption
from cellpatch.figures.plotting import COLUMN_MM, draw_one
from cellpatch.figures.svg import to_svg
from cellpatch.runs.folders import RECORD
from cellpatch.runs.record import GitState
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.plain_text import plain
from cellpatch.runtime.spreadsheet import csv_text
from cellpatch.runtime.version import __version__

LONG = 30  # rows of a table
ORDER = ("models_table", "compare_table", "scaling_table", "blur_table", "latency_table")  # of tables; others follow
_SYNTHETIC = "synthetic: no result on them is a result about patients"


@dataclass(frozen=True)
class FigureView:
    """A figure on the page; `shape` is `column` if it is narrow, `tall` if it is higher than wide."""

    name: str
    svg: Markup
    caption: str
    shape: str


@dataclass(frozen=True)
class TableView:
    """A table on the page, of words."""

    caption: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    file: str  # beside the page, of a long table


@dataclass(frozen=True)
class RunView:
    """A run's name, and a link to its record if it is in a folder."""

    name: str
    link: str | None


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A data set's section of the page; `missing` lists what is not shown, `no_cells` why galleries are empty."""

    key: str
    data: str
    heading: str
    answers: list[Answer]
    by_limit: TableView
    origin: str
    intake: list[str]  # what became of the input's objects
    drawings: list[FigureView]
    tables: list[TableView]
    tables_of: str
    galleries: list[Gallery]
    no_cells: str
    missing: list[str]
    commits: str
    runs: list[RunView]


def build(results: Sequence[RunResult], file: Path = Path("report.html")) -> list[Path]:
    """Write the page of runs, its first screen as .md and .png, and its long tables as .csv; gives all paths."""
    by_data = data_sets(group_by_seed(results))
    files: list[Path] = []
    studies = [_study(f"data{i}", data, groups, file, files) for i, (data, groups) in enumerate(by_data.items())]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html.jinja")
    title = f"Which model for these cells? {', '.join(by_data)}"
    made = f"Made {date.today().isoformat()} with cellpatch {__version__} of {len(results)} runs."
    page = plain(template.render(studies=studies, title=title, made=made, long=LONG))
    with atomic_write(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    first = {
        study.data: Screen(study.heading, study.answers, study.by_limit.columns, study.by_limit.rows)
        for study in studies
    }
    return [file, *write_markdown(first, made, file.with_suffix(".md")), *draw_slides(first, made, file), *files]


def _study(key: str, data: str, groups: Sequence[SeedGroup], file: Path, files: list[Path]) -> StudyView:
    missing: list[str] = []
    drawings = list(_figures(key, data, groups, missing))
    galleries, why = galleries_of(groups)
    facts = groups[0].runs[0].record.data
    kind = _SYNTHETIC if facts.source.synthetic else "not marked as synthetic"
    recommendation = recommend(groups)
    rows = recommendation.by_limit.to_numpy().tolist()
    return StudyView(
        key=key,
        data=data,
        heading=_heading(data, groups),
        answers=recommendation.answers,
        by_limit=TableView("The decision at each limit", "", list(recommendation.by_limit.columns), rows, ""),
        origin=f"The cells are {kind}. Their licence: {facts.source.licence or 'not stated'}.",
        intake=[] if facts.intake is None else facts.intake.sentences(),
        drawings=drawings,
        tables=list(_tables(data, groups, missing, file, files)),
        tables_of=sample_size_caption(groups),
        galleries=galleries,
        no_cells=why,
        missing=missing,
        commits=_commits([run for group in groups for run in group.trainings]),
        runs=[RunView(run.run, _link(run, file.parent)) for group in groups for run in group.trainings],
    )


def _heading(data: str, groups: Sequence[SeedGroup]) -> str:
    """The name of the data, and in parentheses why scores are not of patients that a model has never seen."""
    record = groups[0].runs[0].record
    notes = {"SYNTHETIC cells": record.data.source.synthetic, "cells split at random": record.divides_specimens}
    stated = ", ".join(note for note, holds in notes.items() if holds)
    return f"{data} ({stated})" if stated else data


def _figures(key: str, data: str, groups: Sequence[SeedGroup], missing: list[str]) -> Iterator[FigureView]:
    """Every figure that the runs allow; why the others are not shown is added to `missing`."""
    for name, file in make_all.script_files("figures").items():
        try:
            drawing = draw_one(make_all.load(file).draw, data, {data: groups})
        except Exception as error:  # a reader's own script may fail in any way
            missing.append(f"{name}: {make_all.explain(error)}")
            continue
        svg = Markup(to_svg(drawing.figure, f"{key}-{name}-svg", drawing.caption))  # noqa: S704  (made by ElementTree)
        width, height = drawing.figure.get_size_inches()
        shapes = {"column": width * 25.4 < 1.2 * COLUMN_MM, "tall": height > width}
        yield FigureView(name, svg, drawing.caption, " ".join(shape for shape, holds in shapes.items() if holds))


def _tables(
    data: str, groups: Sequence[SeedGroup], missing: list[str], page: Path, files: list[Path]
) -> Iterator[TableView]:
    """Every table that the runs allow; why the others are not shown is added to `missing`.

    Long tables are written beside the page; their paths are added to `files`.
    """
    found = make_all.script_files("tables")
    for name in sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        try:
            tables = make_all.load(found[name]).tables(groups)
        except Exception as error:  # a reader's own script may fail in any way
            missing.append(f"{name}: {make_all.explain(error)}")
            continue
        for table in tables:
            if table.shown.empty:
                continue
            beside = ""
            if len(table.shown) > LONG:
                file = page.with_name(f"{page.stem}-{file_name(table.stem, data)}.csv")
                with atomic_write(file) as temporary:
                    temporary.write_text(csv_text(table.numbers), encoding="utf-8")
                files.append(file)
                beside = file.name
            rows = table.shown.astype(str).to_numpy().tolist()
            yield TableView(table.caption, table.note, list(table.shown.columns), rows, beside)


def _commits(runs: Sequence[RunResult]) -> str:
    """The commits that made the runs, with how many."""
    names = Counter(_short(run.record.git) for run in runs)
    return ", ".join(f"{name} ({n})" for name, n in sorted(names.items()))


def _short(git: GitState | None) -> str:
    return "unknown" if git is None else f"{git.commit[:7]}{' with changes' * git.dirty}"


def _link(run: RunResult, folder: Path) -> str | None:
    """From the page's folder to a run's record, so that both may move together; None for a packed run."""
    if run.folder is None:
        return None
    return quote(Path(os.path.relpath(run.folder, folder), RECORD).as_posix())


if __name__ == "__main__":
    figure_main(build, "cellpatch report")
