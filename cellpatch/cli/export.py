"""Export a stored run as ONNX: cellpatch export RUN OUT.onnx [--qupath] [--weights FILE]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.inference.export import export


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch export", description="Export a run as ONNX.")
    parser.add_argument("run", type=Path, help="a folder below runs_dir")
    parser.add_argument("file", type=Path, nargs="?", help="what to write, ending in .onnx; default RUN.onnx, here")
    parser.add_argument("--qupath", action="store_true", help="for QuPath's OpenCV DNN object classifier")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    options = parser.parse_args(arguments)
    file = options.file or Path(f"{options.run.resolve().name}.onnx")
    try:
        if options.qupath:
            comparison = _for_qupath(options.run, file, options.weights)
        else:
            comparison = export(options.run, file, options.weights)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {comparison}")


def _for_qupath(run: Path, file: Path, weights: Path | None) -> str:
    from cellpatch.inference.qupath import export_qupath

    written = export_qupath(run, file, weights)
    return (
        f"and {written.classifier} for classifiers/object_classifiers of a QuPath project; OpenCV's probabilities "
        f"differ from the run's by at most {written.difference:.1e} (QuPath itself was not tried)"
    )


if __name__ == "__main__":
    main()
