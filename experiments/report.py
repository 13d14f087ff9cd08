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

import blur_table
import compare_table
import latency_table
import models_table
import numpy as np
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
from cellpatch.groups import Group, at_one_limit, data_sets, grouped, under_blur
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
        "commits": _commits(groups),
        "tables_of": told(groups),
        "galleries": galleries,
        "no_cells": why,
        "lacking": lacking,
        "runs": [{"name": run.run, "link": _link(place, run.run, folder)} for group in groups for run in group.runs],
    }


def _tables(groups: Sequence[Group], lacking: list[str]) -> Iterator[dict[str, Any]]:
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


def _commits(groups: Sequence[Group]) -> str:
    """Which versions of cellpatch made the runs."""
    found = [run.record.get("git") or {} for group in groups for run in group.runs]
    names = Counter(f"{git.get('commit', 'unknown')[:7]}{' with changes' * bool(git.get('dirty'))}" for git in found)
    return ", ".join(f"{name} ({n})" for name, n in sorted(names.items()))


def _link(place: Path, run: str, folder: Path) -> str | None:
    """From the page's folder to a run's record, so that both may move together."""
    return quote(Path(os.path.relpath(place, folder), run, "record.json").as_posix()) if place.is_dir() else None


def _galleries(groups: Sequence[Group], place: Path) -> tuple[list[dict[str, Any]], str]:
    """Cells of each class and the surest errors of the best run, or why they cannot be shown."""
    if not place.is_dir():
        return [], "Packed runs hold no cells; make the page of the runs directory where the crops are."
    best, _ = leader(labelled(curves(groups), groups), at_one_limit(groups)[0].place["flag_limit"])
    run = labelled(at_one_limit(groups), groups)[best].runs[0]
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
    from_runs(build)
