"""One page that one can send to a colleague: the recommendation, its evidence, every figure and table, cells, sources.

    python experiments/report.py runs          # writes report.html; or: make report RUNS=runs

Opens from disk without a network. Cells are shown where the crops are at hand; all else needs the runs alone.
"""

import base64
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import make_all
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from recommend import leader, recommend

from cellpatch import __version__
from cellpatch.analysis.curves import learning_curves
from cellpatch.analysis.groups import SeedGroup, at_one_limit, data_sets, group_by_seed, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.results import read_results
from cellpatch.cli.figures import figure_main
from cellpatch.data.dataset import need_store
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.gallery import pick_across_specimens
from cellpatch.figures.plotting import COLUMN_MM
from cellpatch.figures.svg import to_svg
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.record import predictions_by_condition
from cellpatch.runtime.atomic_io import atomic_write

blur_table, compare_table, latency_table, models_table, scaling_table = (
    make_all.load(make_all.EXPERIMENTS / "tables" / f"{name}_table.py")
    for name in ("blur", "compare", "latency", "models", "scaling")
)
WORST, EACH = 24, 6  # cells shown: the surest errors, and of each class


def build(place: Path, file: Path = Path("report.html")) -> list[Path]:
    """Write the page of a runs directory, or of packed runs; gives its path."""
    results = read_results(place)
    by_data = data_sets(group_by_seed(results))
    studies = [_study(f"data{i}", data, groups, place, file.parent) for i, (data, groups) in enumerate(by_data.items())]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html.jinja")
    facts = {"title": f"Which model for these cells? {', '.join(study['data'] for study in studies)}"}
    facts |= {"made": date.today().isoformat(), "version": __version__, "n_runs": str(len(results))}
    with atomic_write(file) as temporary:
        temporary.write_text(template.render(studies=studies, **facts), encoding="utf-8")
    return [file]


def _study(key: str, data: str, groups: Sequence[SeedGroup], place: Path, folder: Path) -> dict[str, Any]:
    lacking: list[str] = []
    drawings = []
    for name, draw in make_all.makers("figures").items():
        try:
            drawing = draw(data, groups)
        except ValueError as error:
            lacking.append(f"{name}: {error}")
            continue
        svg = Markup(to_svg(drawing.figure, f"{key}-{name}-svg", drawing.caption))  # noqa: S704  (made by ElementTree)
        column = drawing.figure.get_figwidth() * 25.4 < 1.2 * COLUMN_MM
        drawings.append({"name": name, "svg": svg, "caption": drawing.caption, "column": column})
    galleries, why = _galleries(groups, place)
    source = groups[0].runs[0].record["data"]["source"]
    kind = "synthetic: no result on them is one about patients" if source["synthetic"] else "real"
    return {
        "key": key,
        "data": data,
        "sentences": recommend(groups),
        "origin": f"The cells are {kind}. Their licence: {source.get('licence') or 'not stated'}.",
        "drawings": drawings,
        "tables": list(_tables(groups, lacking)),
        "commits": _commits(groups),
        "tables_of": sample_size_caption(groups),
        "galleries": galleries,
        "no_cells": why,
        "lacking": lacking,
        "runs": [{"name": run.run, "link": _link(place, run.run, folder)} for group in groups for run in group.runs],
    }


def _tables(groups: Sequence[SeedGroup], lacking: list[str]) -> Iterator[dict[str, Any]]:
    runs = [run for group in groups for run in group.runs]
    makers = {
        ("Macro-F1 of each model at each limit", ""): lambda: models_table.shown(models_table.summarise(groups)),
        ("Behind the best, on the same cells", compare_table.NOTE): lambda: compare_table.shown(
            compare_table.summarise(groups)
        ),
        ("Who stays ahead from where on", scaling_table.WORDS): lambda: scaling_table.shown_crossings(
            scaling_table.crossings(groups)
        ),
        ("Power laws of macro-F1 and flag_limit", ""): lambda: scaling_table.shown_fits(scaling_table.fits(groups)),
        ("Under blur", ""): lambda: blur_table.shown(blur_table.summarise(under_blur(groups))),
        ("Up to which sigma a lead lasts", blur_table.NOTE): lambda: blur_table.shown_leads(
            blur_table.leads(under_blur(groups), groups)
        ),
        ("Milliseconds a cell", latency_table.NOTE): lambda: latency_table.shown(latency_table.summarise(runs)),
    }
    for (caption, note), make in makers.items():
        try:
            shown = make().astype(str)
        except ValueError as error:
            lacking.append(f"{caption}: {error}")
            continue
        if not shown.empty:
            rows = shown.to_numpy().tolist()
            yield {"caption": caption, "note": note, "columns": list(shown.columns), "rows": rows}


def _commits(groups: Sequence[SeedGroup]) -> str:
    """Which versions of cellpatch made the runs."""
    found = [run.record.get("git") or {} for group in groups for run in group.runs]
    names = Counter(f"{git.get('commit', 'unknown')[:7]}{' with changes' * bool(git.get('dirty'))}" for git in found)
    return ", ".join(f"{name} ({n})" for name, n in sorted(names.items()))


def _link(place: Path, run: str, folder: Path) -> str | None:
    """From the page's folder to a run's record, so that both may move together."""
    return quote(Path(os.path.relpath(place, folder), run, "record.json").as_posix()) if place.is_dir() else None


def _galleries(groups: Sequence[SeedGroup], place: Path) -> tuple[list[dict[str, Any]], str]:
    """Cells of each class and the surest errors of the best run, or why they cannot be shown."""
    if not place.is_dir():
        return [], "Packed runs hold no cells; make the page of the runs directory where the crops are."
    best, _ = leader(by_label(learning_curves(groups), groups), at_one_limit(groups)[0].place["flag_limit"])
    run = by_label(at_one_limit(groups), groups)[best].runs[0]
    try:
        store = need_store(run.record)
    except ValueError as error:
        return [], f"The crops are not at hand here, so no cell is shown: {error}."
    rows, labels, probabilities = predictions_by_condition(place / run.run)[CLEAN]
    classes = run.record["classes"]
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:WORST]
    names = rows["cell_id"].to_numpy()
    galleries = []
    for code, name in enumerate(classes):
        of_class = np.flatnonzero(labels == code)
        of_class = of_class[pick_across_specimens(rows["specimen"].iloc[of_class], EACH)]
        words = [f"{name}" for _ in of_class]
        if len(of_class):
            n = f"{len(of_class)} of {(labels == code).sum()} test cells"
            caption = f"{name}: {n}, drawn at random, of different specimens first."
            galleries.append({"caption": caption, "cells": _cells(store, names[of_class], words)})
    words = [f"{classes[labels[i]]} named {classes[predicted[i]]}, {100 * sure[i]:.0f} %" for i in worst]
    caption = f"Worst errors of {run.run}, the surest first: {len(worst)} of {len(wrong)}."
    return [*galleries, {"caption": caption, "cells": _cells(store, names[worst], words)}], ""


def _cells(store: CellStore, names: Iterable[str], words: Sequence[str]) -> list[dict[str, str]]:
    place: Mapping[str, int] = {name: i for i, name in enumerate(store.cells["cell_id"])}
    margin = store.geometry.margin_px
    crops = store.crops(np.array([place[name] for name in names], int))[:, margin:, margin:]
    shown = []
    for crop, word in zip(crops[:, : crops.shape[1] - margin, : crops.shape[2] - margin], words, strict=True):
        stream = io.BytesIO()
        Image.fromarray(crop).save(stream, "png")
        shown.append({"png": base64.b64encode(stream.getvalue()).decode(), "words": word})
    return shown


if __name__ == "__main__":
    figure_main(build)
