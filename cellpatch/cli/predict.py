"""Classify new cells with a stored run: cellpatch predict RUN SOURCE [--out predictions.csv]."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from os.path import realpath
from pathlib import Path
from typing import Any

from cellpatch.cli.launchers import BASIC, LAUNCHERS, check_installed, check_launcher_settings
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.cli.point_options import add_point_options
from cellpatch.cli.predict_slides import predict_slides
from cellpatch.inference.jobs import PredictionJob, do_job, outputs
from cellpatch.inference.predicted_files import FORMATS, check_format
from cellpatch.runs.folders import require_one_run
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.logs import log_to_terminal
from cellpatch.runtime.memory import tune_malloc
from cellpatch.runtime.plain_text import plain

_SOURCE = "an image, a folder of images, a table (`path`, or image, x, y), or GeoJSON, LabelMe's JSON, ASAP's XML"
_OUT = Path("predictions.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        options.run = require_one_run(options.run)
    except ValueError as error:
        sys.exit(plain(f"error: {error}"))
    tune_malloc()
    log_to_terminal()
    many = [name for name in ("out_dir", "format", "set") if vars(options)[name]]
    several = len(options.source) > 1 or bool(many) or options.launcher != BASIC
    try:
        if not several:
            report = do_job(_job(options, options.source[0], options.out or _OUT))
            print(plain("\n".join(report.lines(str(options.out or _OUT)))))
            return
        if options.out is not None or options.out_dir is None:
            raise ValueError("several sources, --format, --launcher and --set need --out-dir DIR, and no --out")
        if len(options.source) > 1 and options.slide is not None and not options.slide.is_dir():
            raise ValueError(f"--slide of several sources must be the folder of their images, but got {options.slide}")
        StoredRun.open(options.run)
        check_installed(options.launcher)
        settings = prepare_overrides(options.set)
        check_launcher_settings(options.launcher, settings)
        folder = options.out_dir.absolute()
        sources = [source.absolute() for source in options.source]
        outs = outputs(sources, folder, options.format)
        jobs = [_absolute(_job(options, source, out)) for source, out in zip(sources, outs, strict=True)]
        succeeded = predict_slides(jobs, folder, options.launcher, settings)
    except (ValueError, OSError) as error:
        sys.exit(plain(f"error: {error}"))
    if not succeeded:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cellpatch predict", description="Classify new cells with a run.")
    parser.add_argument("run", type=Path, help="a run, or a folder that holds one")
    parser.add_argument("source", type=Path, nargs="+", help=f"{_SOURCE}; several need --out-dir")
    parser.add_argument("--out", type=Path, help=f"ends with {', '.join(FORMATS)}; {_OUT} if not given")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    add_point_options(parser)
    many = parser.add_argument_group("several sources", "a job each; finished ones are skipped, killed ones go on")
    many.add_argument("--out-dir", type=Path, help="folder of the outputs and of summary.csv")
    many.add_argument("--format", choices=FORMATS, help="of all outputs; else as their sources, or CSV")
    many.add_argument("--launcher", choices=LAUNCHERS, default=BASIC, help="what runs the jobs")
    many.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the launcher's YAML")
    return parser


def _job(options: argparse.Namespace, source: Path, out: Path) -> PredictionJob:
    """A source's job; raises ValueError for a format that is not written, an option out of range, a replaced source."""
    check_format(out)
    if realpath(out) == realpath(source):
        raise ValueError(f"{out} would replace the source: choose another --out")
    names = [each.name for each in fields(PredictionJob)]
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if name in names}
    texts: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    job = PredictionJob(**texts | {"source": str(source), "out": str(out)})
    _ = job.points  # checks the options
    return job


def _absolute(job: PredictionJob) -> PredictionJob:
    """A job for a process whose working directory is another."""
    paths = {name: value for name, value in vars(job).items() if name in ("run", "weights", "slide") and value}
    absolute: dict[str, Any] = {name: str(Path(value).absolute()) for name, value in paths.items()}
    return replace(job, **absolute)


if __name__ == "__main__":
    main()
