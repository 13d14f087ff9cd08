"""One page to send to a colleague: the recommendation, its evidence, every figure and table, cells, sources.

    cellpatch report runs          # writes report.html; or: make report RUNS=runs

Opens from disk without a network. Cells are shown where the crops are on this machine; all else needs the runs alone.
"""

import base64
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import make_all
import numpy as np
from jaxtyping import Int, UInt8
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from recommend import recommend

from cellpatch.analysis.curves import leader, learning_curves
from cellpatch.analysis.groups import SeedGroup, at_one_limit, data_sets, group_by_seed
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.results import RunResult, read_results
from cellpatch.cli.figures import figure_main
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.gallery import pick_across_specimens
from cellpatch.figures.plotting import COLUMN_MM
from cellpatch.figures.svg import to_svg
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.record import GitState
from cellpatch.runs.stored_run import Predictions, StoredRun, require_store
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.version import __version__

ORDER = ("models_table", "compare_table", "scaling_table", "blur_table", "latency_table")  # of tables; others follow
WORST, EACH = 24, 6  # cells shown: the surest errors, and of each class


@dataclass(frozen=True)
class FigureView:
    """A figure on the page; `column` is true for a narrow one."""

    name: str
    svg: Markup
    caption: str
    column: bool


@dataclass(frozen=True)
class TableView:
    """A table on the page, of words."""

    caption: str
    note: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class CellView:
    """A crop on the page: base64 of its PNG file, and what it is."""

    png: str
    words: str


@dataclass(frozen=True)
class Gallery:
    """Cells beside each other."""

    caption: str
    cells: list[CellView]


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
    sentences: list[str]
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


def build(runs: Sequence[Path], file: Path = Path("report.html")) -> list[Path]:
    """Write the page of runs, folders of runs, or packed runs; gives its path."""
    results = read_results(*runs)
    by_data = data_sets(group_by_seed(results))
    studies = [_study(f"data{i}", data, groups, file.parent) for i, (data, groups) in enumerate(by_data.items())]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html.jinja")
    page = template.render(
        studies=studies,
        title=f"Which model for these cells? {', '.join(by_data)}",
        made=date.today().isoformat(),
        version=__version__,
        n_runs=str(len(results)),
    )
    with atomic_write(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return [file]


def _study(key: str, data: str, groups: Sequence[SeedGroup], folder: Path) -> StudyView:
    missing: list[str] = []
    drawings = list(_figures(key, data, groups, missing))
    galleries, why = _galleries(groups)
    facts = groups[0].runs[0].record.data
    kind = (
        "synthetic: no result on them is a result about patients"
        if facts.source.synthetic
        else "not marked as synthetic"
    )
    return StudyView(
        key=key,
        data=data,
        sentences=recommend(groups),
        origin=f"The cells are {kind}. Their licence: {facts.source.licence or 'not stated'}.",
        intake=[] if facts.intake is None else facts.intake.sentences(),
        drawings=drawings,
        tables=list(_tables(groups, missing)),
        tables_of=sample_size_caption(groups),
        galleries=galleries,
        no_cells=why,
        missing=missing,
        commits=_commits([run for group in groups for run in group.runs]),
        runs=[RunView(run.run, _link(run, folder)) for group in groups for run in group.runs],
    )


def _figures(key: str, data: str, groups: Sequence[SeedGroup], missing: list[str]) -> Iterator[FigureView]:
    """Every figure that the runs allow; why the others are not shown is added to `missing`."""
    for name, script in make_all.scripts("figures").items():
        try:
            drawing = script.draw(data, groups)
        except ValueError as error:
            missing.append(f"{name}: {error}")
            continue
        svg = Markup(to_svg(drawing.figure, f"{key}-{name}-svg", drawing.caption))  # noqa: S704  (made by ElementTree)
        column = drawing.figure.get_figwidth() * 25.4 < 1.2 * COLUMN_MM
        yield FigureView(name, svg, drawing.caption, column)


def _tables(groups: Sequence[SeedGroup], missing: list[str]) -> Iterator[TableView]:
    """Every table that the runs allow; why the others are not shown is added to `missing`."""
    scripts = make_all.scripts("tables")
    for name in sorted(scripts, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        try:
            tables = scripts[name].tables(groups)
        except ValueError as error:
            missing += [f"{caption}: {error}" for caption in scripts[name].CAPTIONS]
            continue
        for table in tables:
            if not table.shown.empty:
                rows = table.shown.astype(str).to_numpy().tolist()
                yield TableView(table.caption, table.note, list(table.shown.columns), rows)


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
    return quote(Path(os.path.relpath(run.folder, folder), "record.json").as_posix())


def _galleries(groups: Sequence[SeedGroup]) -> tuple[list[Gallery], str]:
    """Cells of each class and the surest errors of the best run, or why they cannot be shown."""
    at_limit = at_one_limit(groups)
    best, _ = leader(by_label(learning_curves(groups), groups), at_limit[0].coordinates.flag_limit)
    run = by_label(at_limit, groups)[best].runs[0]
    if run.folder is None:
        return (
            [],
            "Packed runs contain no cells. Make the report from the runs directory on a machine that has the crops.",
        )
    try:
        store = require_store(run.record)
    except ValueError as error:
        return [], f"The crops are not on this machine, so no cell is shown: {error}."
    predictions = StoredRun.open(run.folder).predictions[CLEAN]
    return [*_classes(store, predictions, run), _worst_errors(store, predictions, run)], ""


def _classes(store: CellStore, predictions: Predictions, run: RunResult) -> Iterator[Gallery]:
    """Test cells of each class that has any."""
    for code, name in enumerate(run.record.classes):
        of_class = np.flatnonzero(predictions.labels == code)
        shown = of_class[pick_across_specimens(predictions.rows["specimen"].iloc[of_class], EACH)]
        if len(shown):
            n = f"{len(shown)} of {len(of_class)} test cells"
            caption = f"{name}: {n}, drawn at random, of different specimens first."
            yield Gallery(caption, _cells(store, predictions, shown, [name] * len(shown)))


def _worst_errors(store: CellStore, predictions: Predictions, run: RunResult) -> Gallery:
    """The wrong predictions with the highest probability."""
    classes, labels = run.record.classes, predictions.labels
    predicted, confidence = predictions.probabilities.argmax(axis=1), predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
    words = [f"{classes[labels[i]]} predicted as {classes[predicted[i]]}, {100 * confidence[i]:.0f} %" for i in worst]
    caption = f"Worst errors of {run.run}, most confident first: {len(worst)} of {len(wrong)}."
    return Gallery(caption, _cells(store, predictions, worst, words))


def _cells(
    store: CellStore, predictions: Predictions, shown: Int[np.ndarray, " shown"], words: Sequence[str]
) -> list[CellView]:
    """The predicted cells at these positions, without the margin of their crops."""
    row_of = {name: row for row, name in enumerate(store.cells["cell_id"])}
    rows = np.array([row_of[name] for name in predictions.rows["cell_id"].to_numpy()[shown]], int)
    margin, side = store.geometry.margin_px, store.geometry.crop_px
    crops = store.crops(rows)[:, margin : margin + side, margin : margin + side]
    return [CellView(_png(crop), text) for crop, text in zip(crops, words, strict=True)]


def _png(crop: UInt8[np.ndarray, "h w 3"]) -> str:
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()


if __name__ == "__main__":
    figure_main(build, "cellpatch report")
