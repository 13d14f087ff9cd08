"""Predictions as jobs: a source, its output, and a report, so that a finished one is not done again."""

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from os.path import commonpath, realpath
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cellpatch.data.annotations.read import Origin
from cellpatch.data.images.crops import Border
from cellpatch.data.images.pixels import ImageOptions, Orientation
from cellpatch.data.sources.source import file_state
from cellpatch.inference.new_cells import PointOptions
from cellpatch.inference.predict import predict
from cellpatch.inference.predicted_files import FORMATS, WRITER_VERSION, format_of, write_prediction
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.atomic_io import atomic_write, file_lock

log = logging.getLogger(__name__)
State = Literal["predicted", "exists", "failed", "interrupted"]
REPORTS = ".reports"  # a folder beside the outputs of several sources: a report each
SUMMARY = "summary.csv"  # beside them, a row a source
_OWN_FORMAT = {".json": ".geojson", ".json.gz": ".geojson.gz"}  # of a source whose own format has another suffix


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
    workers: int | None = None  # processes that cut; None: as many as there are cores
    overwrite: bool = False  # an output that is there and that no earlier command wrote

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

    `key` is the run, the source and the options, `images` the state of each image that was read: together they
    determine the output. `messages` state why a job failed. `command` is the one of several commands that did or
    skipped the job last. `out_state` is the state of the output as it was written.
    """

    state: State
    key: str = ""
    images: dict[str, str] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    seconds: float = 0.0
    command: str = ""
    out_state: str = ""

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
        counts = {name: count for name, count in self.classes.items() if count}
        return [
            f"{out}: {self.classified} cells classified of {self.cells}, {counts}{exists}",
            *(f"  left out: {count}, {reason}" for reason, count in self.left_out.items()),
            *(f"  note: {note}" for note in self.notes),
        ]


_BEGUN = PredictionReport("interrupted", messages=["the same command resumes it"])


def do_job(job: PredictionJob) -> PredictionReport:
    """Predict and write one source; what was killed resumes.

    Raises ValueError and OSError, and ValueError if the output exists and `overwrite` is false.
    """
    started = time.perf_counter()
    out = Path(job.out)
    if out.exists() and not job.overwrite:
        raise ValueError(f"{out} exists and is not replaced: choose another output, or replace it with --overwrite")
    key = _key(job)
    weights = None if job.weights is None else Path(job.weights)
    partial = out.with_name(f".{out.name}.partial")
    prediction = predict(Path(job.run), Path(job.source), weights, job.points, partial, job.workers)
    images = {str(file): file_state(file) for file in sorted(set(prediction.cells.files))}
    write_prediction(prediction, out)
    prediction.finish()
    counts = np.bincount(prediction.probabilities.argmax(axis=1), minlength=len(prediction.classes)).tolist()
    return PredictionReport(
        "predicted",
        key,
        images,
        dict(zip(prediction.classes, counts, strict=True)),
        dict(Counter(prediction.left_out.values())),
        prediction.notes,
        seconds=round(time.perf_counter() - started, 2),
        out_state=file_state(out),
    )


def do_job_once(job: PredictionJob, command: str) -> PredictionReport:
    """As `do_job`, unless the output is there and nothing that determines it changed; an error is the report's state.

    An output that an earlier command wrote is replaced, unless somebody changed it since.
    The report lies beside the output for `command`, which may run elsewhere, and for the next one. Another process that
    does the same job is waited for.
    """
    job.report_file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(job.report_file.with_suffix(".lock")):
        earlier = read_report(job)
        try:
            if earlier and _is_current(job, earlier):
                report = replace(earlier, state="exists")
            else:
                own = earlier is not None and _is_as_written(job, earlier)
                if own or not Path(job.out).exists():
                    _write_report(job, replace(_BEGUN, command=command))
                report = do_job(replace(job, overwrite=job.overwrite or own))
        except (ValueError, OSError) as error:
            report = PredictionReport("failed", messages=str(error).splitlines())
        except Exception as error:  # of this source alone, such as a full GPU; the others go on
            log.exception("%s failed", job.source)
            report = PredictionReport("failed", messages=[f"{type(error).__name__}: {error}"])
        if report.state == "failed" and Path(job.out).exists():
            report.messages.append(f"{job.out} is from an earlier command")
        if report.state == "failed" and earlier:
            report = replace(report, out_state=earlier.out_state)
        report = replace(report, command=command)
        _write_report(job, report)
    return report


def _write_report(job: PredictionJob, report: PredictionReport) -> None:
    with atomic_write(job.report_file) as temporary:
        temporary.write_text(json.dumps(asdict(report)), encoding="utf-8")


def _is_as_written(job: PredictionJob, report: PredictionReport) -> bool:
    """Whether an earlier command wrote the output, and nobody changed it since."""
    if not report.out_state:  # killed while it wrote, or of a version that did not state it
        return report.state != "failed"
    return file_state(Path(job.out)) == report.out_state


def _key(job: PredictionJob) -> str:
    """The run, the source and the options of a job; raises ValueError if the run is none."""
    identity = StoredRun.open(Path(job.run)).record.identity
    return json.dumps([WRITER_VERSION, identity, file_state(Path(job.source)), repr(job.points)])


def _is_current(job: PredictionJob, report: PredictionReport) -> bool:
    """Whether a job's output is there, of the present run, source, options and images."""
    if report.key != _key(job) or not Path(job.out).exists():
        return False
    return all(file_state(Path(file)) == state for file, state in report.images.items())


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
    shared = Path(commonpath([source.absolute().parent for source in sources]))
    source_of: dict[Path, Path] = {}
    for source in sources:
        own = format_of(source)
        kept = suffix or _OWN_FORMAT.get(own, own if own in FORMATS else ".csv")
        name = source.name if source.is_dir() else source.name[: len(source.name) - len(own)]
        out = folder / source.absolute().parent.relative_to(shared) / f"{name}{kept}"
        if out in source_of:
            raise ValueError(f"{source_of[out]} and {source} would both be written to {out}: rename one, or give one")
        if out == folder / SUMMARY:
            raise ValueError(f"{source} would be written to {out}, the file of the summary: rename it")
        source_of[out] = source
    originals = {realpath(source) for source in sources}
    for out, source in source_of.items():
        if realpath(out) in originals:
            raise ValueError(f"{out} would replace the source {source}: choose another --out-dir")
    return list(source_of)


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
