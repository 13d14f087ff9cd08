"""One page that one can send to a colleague: the recommendation, its evidence, every figure and table, cells, sources.

    python experiments/report.py runs          # writes report.html; or: make report RUNS=runs

Opens from disk without a network. Cells are shown where the crops are at hand; all else needs the runs alone.
"""

import base64
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import blur_table
import compare_table
import latency_table
import models_table
import numpy as np
import pandas as pd
import paper
import scaling_table
from figure_cells import spread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from recommend import leader, recommend

from cellpatch import __version__
from cellpatch.captions import labelled, told
from cellpatch.command import from_runs
from cellpatch.conditions import CLEAN
from cellpatch.curves import curves
from cellpatch.data.store import CellStore
from cellpatch.groups import Group, data_sets, grouped, under_blur
from cellpatch.plotting import COLUMN_MM
from cellpatch.publish import replacing
from cellpatch.record import predictions_by_condition
from cellpatch.results import read_results
from cellpatch.study import need_store
from cellpatch.svg import as_svg

WORST, EACH = 24, 6  # cells shown: the surest errors, and of each class


def build(place: Path, file: Path = Path("report.html")) -> list[Path]:
    """Write the page of a runs directory, or of packed runs; gives its path."""
    results = read_results(place)
    by_data = data_sets(grouped(results))
    studies = [_study(f"data{i}", data, groups, place, file.parent) for i, (data, groups) in enumerate(by_data.items())]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html.jinja")
    facts = {"title": f"Which model for these cells? {', '.join(study['data'] for study in studies)}"}
    facts |= {"made": date.today().isoformat(), "version": __version__, "n_runs": str(len(results))}
    with replacing(file) as temporary:
        temporary.write_text(template.render(studies=studies, **facts), encoding="utf-8")
    return [file]


def _study(key: str, data: str, groups: Sequence[Group], place: Path, folder: Path) -> dict[str, Any]:
    lacking: list[str] = []
    drawings = []
    for name, draw in paper.makers("figures").items():
        try:
            drawing = draw(data, groups)
        except ValueError as error:
            lacking.append(f"{name}: {error}")
            continue
        svg = Markup(as_svg(drawing.figure, f"{key}-{name}-svg", drawing.caption))  # noqa: S704  (made by ElementTree)
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
        "tables_of": told(groups),
        "galleries": galleries,
        "no_cells": why,
        "lacking": lacking,
        "runs": [{"name": run.run, "link": _link(place, run.run, folder)} for group in groups for run in group.runs],
    }


def _tables(groups: Sequence[Group], lacking: list[str]) -> Iterator[dict[str, Any]]:
    runs = [run for group in groups for run in group.runs]
    makers = {
        "Macro-F1 of each model at each limit": lambda: models_table.shown(models_table.summarise(groups)),
        "Behind the best, on the same cells": lambda: compare_table.shown(compare_table.summarise(groups)),
        "From where on a model from scratch stays ahead": lambda: _crossings(groups),
        "Under blur": lambda: blur_table.shown(blur_table.summarise(under_blur(groups))),
        "Milliseconds a cell": lambda: latency_table.shown(latency_table.summarise(runs)),
    }
    for caption, make in makers.items():
        try:
            shown = make().astype(str)
        except ValueError as error:
            lacking.append(f"{caption}: {error}")
            continue
        if not shown.empty:
            yield {"caption": caption, "columns": list(shown.columns), "rows": shown.to_numpy().tolist()}


def _crossings(groups: Sequence[Group]) -> pd.DataFrame:
    pairs = scaling_table.crossings(groups)
    return pairs.assign(**{name: pairs[name].map(scaling_table.in_words) for name in ("from", "low", "high")})


def _link(place: Path, run: str, folder: Path) -> str | None:
    """From the page's folder to a run's record, so that both may move together."""
    return quote(Path(os.path.relpath(place, folder), run, "record.json").as_posix()) if place.is_dir() else None


def _galleries(groups: Sequence[Group], place: Path) -> tuple[list[dict[str, Any]], str]:
    """Cells of each class and the surest errors of the best run, or why they cannot be shown."""
    if not place.is_dir():
        return [], "Packed runs hold no cells; make the page of the runs directory where the crops are."
    found = labelled(curves(groups), groups)
    top = max(limit for curve in found.values() for limit in curve.limits)
    best = leader(found, top)
    run = next(group for group in found[best[0]].groups if group.place["flag_limit"] == top).runs[0]
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
        of_class = of_class[spread(rows["specimen"].iloc[of_class], EACH)]
        words = [f"{name}" for _ in of_class]
        if len(of_class):
            caption = f"{name}: {len(of_class)} of {(labels == code).sum()} test cells, drawn at random."
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
    from_runs(build)
