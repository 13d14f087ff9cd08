"""Whole slides through OpenSlide (extra `slides`)."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from cellpatch.data.images.scale import check_scale


def _number(file: Path, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{file}: {name} must be a number, but is {text!r}") from error


class OpenSlideReader:
    """Level 0 of a whole slide.

    Where the scanner states the bounds of what it scanned, coordinates count from their corner, as QuPath's do, and the
    image is as large as they are; with origin "slide" they count from the slide's corner.
    """

    def __init__(self, file: Path, origin: Literal["bounds", "slide"] = "bounds") -> None:
        try:
            import openslide
        except ImportError as error:
            raise ValueError(
                f"{file}: whole slides need OpenSlide: pip install openslide-python openslide-bin"
            ) from error
        if not file.is_file():
            raise ValueError(f"{file}: no such image")
        try:
            self._slide = openslide.OpenSlide(str(file))
        except openslide.OpenSlideError as error:
            raise ValueError(f"{file}: OpenSlide cannot read it ({error})") from error
        self.width, self.height = self._slide.dimensions
        self._left, self._top = 0, 0
        self.note = ""
        stated = self._slide.properties
        names = [
            openslide.PROPERTY_NAME_BOUNDS_X,
            openslide.PROPERTY_NAME_BOUNDS_Y,
            openslide.PROPERTY_NAME_BOUNDS_WIDTH,
            openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
        ]
        if all(name in stated for name in names):
            left, top, width, height = (int(_number(file, name, stated[name])) for name in names)
            shifted = (left, top) != (0, 0)
            if origin == "bounds":
                self._left, self._top, self.width, self.height = left, top, width, height
            if shifted:
                corner = "the scanned bounds, as in QuPath" if origin == "bounds" else "the slide's corner"
                self.note = f"images whose points count from {corner} (data.slide_origin)"
        axes = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        self._file, self._stated = file, {name: stated[name] for name in axes if name in stated}

    def stated_um_per_px(self) -> float | None:
        sizes = [_number(self._file, name, text) for name, text in self._stated.items()]
        return check_scale(self._file, sizes[0], sizes[-1], "the slide") if sizes else None

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._rgba(x, y, width, height)[..., :3]

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        return bool((self._rgba(x, y, width, height)[..., 3] == 255).all())

    def _rgba(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 4"]:
        return np.asarray(self._slide.read_region((self._left + x, self._top + y), 0, (width, height)))
