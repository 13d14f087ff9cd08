"""Predictions as jobs: a source, its output, and a report, so that a finished one is not done again."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from os.path import commonpath
from pathlib import Path
from typing import Literal

import pandas as pd

from cellpatch.data.annotations.read import Origin
from cellpatch.data.images.crops import Border
from cellpatch.data.images.pixels import ImageOptions, Orientation
from cellpatch.inference.new_cells import PointOptions, list_cells
from cellpatch.inference.predict import predict, prediction_key
from cellpatch.inference.predicted_files import FORMATS, format_of, write_prediction
from cellpatch.runtime.atomic_io import atomic_write, file_lock

State = Literal["predicted", "exists", "failed", "interrupted"]
REPORTS = ".reports"  # a folder beside the outputs of several sources: a report each


@dataclass(frozen=True, kw_only=True)
class PredictionJob:
    """One source, its output and how it is predicted; plain values, since jobs travel to their process as JSON."""

    run: str
    source: str
    out: str
    weights: str | None = None
    slide: str | None = None
    um_per_px: float | None = None
    border: Border = PointOptions.border
    pixel_origin: Origin = PointOptions.pixel_origin
    orientation: Orientation = ImageOptions.orientation
    scene: int | None = None
    slide_origin: Literal["bounds", "slide"] = "bounds"

    @property
    def points(self) -> PointOptions:
        """Raises ValueError for a value out of range."""
        images = ImageOptions(self.orientation, self.scene, self.slide_origin)
        slide = None if self.slide is None else Path(self.slide)
        return PointOptions(self.um_per_px, self.border, slide, self.pixel_origin, images)

    @property
    def report_file(self) -> Path:
        out = Path(self.out)
        return out.parent / REPORTS / f"{out.name}.json"


@dataclass(frozen=True)
class PredictionReport:
    """What a job did: cells of each class, the others by reason, notes on the input.

    `key` names everything that determines the output; `messages` say why a job failed. `command` is the one of several
    commands that did or skipped the job last.
    """

    state: State
    key: str = ""
    classes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    seconds: float = 0.0
    command: str = ""

    @property
    def classified(self) -> int:
        return sum(self.classes.values())

    @property
    def cells(self) -> int:
        return self.classified + sum(self.left_out.values())

    def lines(self, out: str) -> list[str]:
        """For a screen."""
        if self.state in ("failed", "interrupted"):
            return [f"{out}: {self.state}", *(f"  {line}" for line in self.messages)]
        exists = ", exists already" if self.state == "exists" else ""
        return [
            f"{out}: {self.classified} cells classified of {self.cells}, {self.classes}{exists}",
            *(f"  left out: {count}, {reason}" for reason, count in self.left_out.items()),
            *(f"  note: {note}" for note in self.notes),
        ]


def do_job(job: PredictionJob) -> PredictionReport:
    """Predict and write one source; what was killed goes on where it was. Raises ValueError and OSError."""
    return _do(job, None)


def do_job_once(job: PredictionJob, command: str) -> PredictionReport:
    """As `do_job`, unless the output is there, of the same run, cells and options; an error is the report's state.

    The report lies beside the output for `command`, which may run elsewhere, and for the next one. Another process that
    does the same job is waited for.
    """
    job.report_file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(job.report_file.with_suffix(".lock")):
        try:
            report = _do(job, read_report(job))
        except (ValueError, OSError) as error:
            report = PredictionReport("failed", messages=str(error).splitlines())
        report = replace(report, command=command)
        with atomic_write(job.report_file) as temporary:
            temporary.write_text(json.dumps(asdict(report), ensure_ascii=False), encoding="utf-8")
    return report


def _do(job: PredictionJob, earlier: PredictionReport | None) -> PredictionReport:
    started = time.perf_counter()
    run, source, out = Path(job.run), Path(job.source), Path(job.out)
    cells = list_cells(source, job.points)
    key = prediction_key(run, cells, job.points)
    if earlier is not None and earlier.key == key and out.exists():
        return replace(earlier, state="exists")
    weights = None if job.weights is None else Path(job.weights)
    prediction = predict(run, cells, weights, job.points, out.with_name(f".{out.name}.partial"))
    write_prediction(prediction, out)
    prediction.finish()
    return PredictionReport(
        "predicted",
        key,
        {str(name): count for name, count in prediction.table()["class"].value_counts().items()},
        dict(Counter(prediction.left_out.values())),
        prediction.notes,
        seconds=round(time.perf_counter() - started, 2),
    )


def read_report(job: PredictionJob) -> PredictionReport | None:
    """A job's last report; None if it never ended."""
    try:
        return PredictionReport(**json.loads(job.report_file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def outputs(sources: Sequence[Path], folder: Path, suffix: str | None) -> list[Path]:
    """Where each source's prediction goes: below `folder` as the sources lie below the folder that all share.

    `suffix` is the format; None keeps a source's own, GeoJSON for JSON, and CSV for what is not written. Raises
    ValueError if two sources would have one output, or an output would replace a source.
    """
    shared = Path(commonpath([source.resolve().parent for source in sources]))
    found: dict[Path, Path] = {}
    for source in sources:
        own = format_of(source)
        kept = suffix or {".json": ".geojson"}.get(own, own if own in FORMATS else ".csv")
        name = source.name if source.is_dir() else source.name[: len(source.name) - len(own)]
        out = folder / source.resolve().parent.relative_to(shared) / f"{name}{kept}"
        if out in found:
            raise ValueError(f"{found[out]} and {source} would both be written to {out}; rename one")
        found[out] = source
    originals = {source.resolve() for source in sources}
    for out, source in found.items():
        if out.resolve() in originals:
            raise ValueError(f"{out} would replace the source {source}: choose another --out-dir")
    return list(found)


def summary_table(jobs: Iterable[PredictionJob], reports: Iterable[PredictionReport]) -> pd.DataFrame:
    """One row a source: state, cells, classified ones, cells of each class, those left out, seconds, notes."""
    rows = [
        {
            "source": job.source,
            "out": job.out,
            "state": report.state,
            "cells": report.cells,
            "classified": report.classified,
            **{f"n_{name}": count for name, count in sorted(report.classes.items())},
            "left_out": "; ".join(f"{count} {reason}" for reason, count in report.left_out.items()),
            "notes": "; ".join([*report.notes, *report.messages]),
            "seconds": report.seconds,
        }
        for job, report in zip(jobs, reports, strict=True)
    ]
    table = pd.DataFrame(rows)
    counts = sorted(column for column in table.columns if column.startswith("n_"))
    table[counts] = table[counts].fillna(0).astype(int)
    first, last = ["source", "out", "state", "cells", "classified"], ["left_out", "notes", "seconds"]
    return table[[*first, *counts, *last]]
