"""The options of commands that read unlabelled points in images: their images, scale, border and origin."""

import argparse
from pathlib import Path
from typing import get_args

from cellpatch.data.annotations.read import Origin
from cellpatch.data.images.crops import Border
from cellpatch.data.images.pixels import ImageOptions, Orientation
from cellpatch.inference.new_cells import PointOptions


def add_point_options(parser: argparse.ArgumentParser) -> None:
    """The options of PointOptions and ImageOptions."""
    group = parser.add_argument_group("points in images")
    group.add_argument("--slide", type=Path, help="the image of a source that names none, or the folder of the images")
    group.add_argument("--um-per-px", type=float, help="scale of the images, where they do not state it")
    border, origin, orientation = PointOptions.border, PointOptions.pixel_origin, ImageOptions.orientation
    group.add_argument("--border", choices=get_args(Border), default=border, help="of points near to an edge")
    group.add_argument("--pixel-origin", choices=get_args(Origin), default=origin, help="of a table's x and y")
    group.add_argument("--orientation", choices=get_args(Orientation), default=orientation, help="of turned images")
    group.add_argument("--scene", type=int, help="which image of a file that holds several")
    group.add_argument("--slide-origin", choices=["bounds", "slide"], default="bounds", help="QuPath's or OpenSlide's")
