"""Classify new cells with a stored run: python -m cellpatch.predict RUN SOURCE [--out predictions.csv]."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cellpatch.data.annotations.read import Origin
from cellpatch.data.images.crops import Border
from cellpatch.data.images.pixels import ImageOptions, Orientation
from cellpatch.inference.new_cells import PointOptions
from cellpatch.inference.predict import predict
from cellpatch.inference.predicted_files import check_format, write_prediction
from cellpatch.runtime.memory import tune_malloc

_SOURCE = "an image, a folder of images, a table (`path`, or image, x, y), or GeoJSON, LabelMe's JSON, ASAP's XML"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.predict", description="Classify new cells with a run.")
    parser.add_argument("run", type=Path, help="a folder below runs_dir")
    parser.add_argument("source", type=Path, help=_SOURCE)
    parser.add_argument("--slide", type=Path, help="the image of an annotation file, or of a table without `image`")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), help="ends with .csv, .tsv, .parquet, .geojson, .h5ad"
    )
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    parser.add_argument("--um-per-px", type=float, help="scale of images with points, where they do not state it")
    border, origin, orientation = PointOptions.border, PointOptions.pixel_origin, ImageOptions.orientation
    parser.add_argument("--border", choices=get_args(Border), default=border, help="of points near to an edge")
    parser.add_argument("--pixel-origin", choices=get_args(Origin), default=origin, help="of a table's x and y")
    parser.add_argument("--orientation", choices=get_args(Orientation), default=orientation, help="of turned images")
    parser.add_argument("--scene", type=int, help="which image of a file that holds several")
    parser.add_argument("--slide-origin", choices=["bounds", "slide"], default="bounds", help="QuPath's or OpenSlide's")
    options = parser.parse_args(arguments)
    tune_malloc()
    logging.basicConfig(format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    try:
        check_format(options.out)
        images = ImageOptions(options.orientation, options.scene, options.slide_origin)
        points = PointOptions(options.um_per_px, options.border, options.slide, options.pixel_origin, images)
        partial = options.out.with_name(f".{options.out.name}.partial")
        prediction = predict(options.run, options.source, options.weights, points, partial)
        write_prediction(prediction, options.out)
        prediction.finish()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    classes = prediction.table()["class"].value_counts().to_dict()
    print(f"{options.out}: {len(prediction.rows)} cells classified of {len(prediction.cells)}, {classes}")
    for reason, count in Counter(prediction.left_out.values()).items():
        print(f"  left out: {count}, {reason}")
    for note in prediction.notes:
        print(f"  note: {note}")


if __name__ == "__main__":
    main()
