"""Export a stored run as ONNX: python -m cellpatch.export RUN OUT.onnx [--weights FILE]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.inference.export import export


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.export", description="Export a run as ONNX.")
    parser.add_argument("run", type=Path, help="a folder below runs_dir")
    parser.add_argument("file", type=Path, help="what to write, ending in .onnx")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    options = parser.parse_args(arguments)
    try:
        comparison = export(options.run, options.file, options.weights)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB, {comparison}")


if __name__ == "__main__":
    main()
