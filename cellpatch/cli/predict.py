"""Classify new cells with a stored run: python -m cellpatch.predict RUN SOURCE [--out predictions.csv]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cellpatch.data.images.crops import Border
from cellpatch.inference.predict import PointOptions, predict
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.memory import tune_malloc


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.predict", description="Classify new cells with a run.")
    parser.add_argument("run", type=Path, help="a folder below runs_dir")
    parser.add_argument("source", type=Path, help="an image, a folder of images, or a table: `path`, or image, x, y")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"))
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    parser.add_argument("--um-per-px", type=float, help="scale of images with points, where they do not state it")
    parser.add_argument("--border", choices=get_args(Border), default="drop", help="of points too near to an edge")
    options = parser.parse_args(arguments)
    tune_malloc()
    try:
        points = PointOptions(options.um_per_px, options.border)
        table = predict(options.run, options.source, options.weights, points)
        with atomic_write(options.out) as temporary:
            table.to_csv(temporary, index=False)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.out}: {len(table)} cells, {table['class'].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
