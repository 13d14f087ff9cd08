"""Export stored runs as ONNX: cellpatch export RUNS ... [OUT.onnx] [--qupath] [--weights FILE]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.cli.each_run import for_each_run
from cellpatch.inference.export import export
from cellpatch.runs.folders import require_runs

_USAGE = "cellpatch export [-h] RUNS [RUNS ...] [OUT.onnx] [--qupath] [--weights FILE] [--overwrite]"
_HELP = "runs, or folders of runs; after one run, what to write, ending in .onnx (default: RUN.onnx, here)"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(usage=_USAGE, description="Export runs as ONNX.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help=_HELP)
    parser.add_argument("--qupath", action="store_true", help="for QuPath's OpenCV DNN object classifier")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    try:
        files = _files(options.runs)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for_each_run(files, lambda run: _write(run, files[run], options))


def _files(paths: Sequence[Path]) -> dict[Path, Path]:
    """The file that each run is written to; raises ValueError for one file of several runs."""
    *before, last = paths
    if not before or (last.suffix != ".onnx" and last.exists()):
        return {run: Path(f"{run.resolve().name}.onnx") for run in require_runs(paths)}
    runs = require_runs(before)
    if len(runs) > 1:
        raise ValueError(f"{last} takes one run, but {len(runs)} are named: leave it out, and each is RUN.onnx, here")
    return {runs[0]: last}


def _write(run: Path, file: Path, options: argparse.Namespace) -> bool:
    if file.exists() and not options.overwrite:
        raise ValueError(f"{file} exists and is not replaced: choose another file, or replace it with --overwrite")
    write = _write_for_qupath if options.qupath else export
    words = write(run, file, options.weights)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {words}")
    return True


def _write_for_qupath(run: Path, file: Path, weights: Path | None) -> str:
    from cellpatch.inference.qupath import export_qupath

    written = export_qupath(run, file, weights)
    return (
        f"and {written.classifier} for classifiers/object_classifiers of a QuPath project; OpenCV's probabilities "
        f"differ from the run's by at most {written.difference:.1e} (QuPath itself was not tried)"
    )


if __name__ == "__main__":
    main()
