"""Read images by region, whatever their format."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cellpatch.data.images.ome_zarr import OmeZarrReader
from cellpatch.data.images.openslides import OpenSlideReader
from cellpatch.data.images.pixels import PLAIN, SLIDE_SUFFIXES, ZARR_SUFFIX, ImageOptions, Orientation, decode_file
from cellpatch.data.images.tiff import TiffReader


@runtime_checkable
class SlideReader(Protocol):
    """An image read by region.

    `note` states what was chosen where the file allows more than one reading; empty if nothing was.
    """

    width: int
    height: int
    note: str

    def stated_um_per_px(self) -> float | None:
        """Micrometres per pixel, None where the file does not state it; raises ValueError on what cannot be right."""
        ...

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of a region inside the image; x and y are its upper left pixel."""
        ...

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether no pixel of a region is transparent."""
        ...


def open_slide(file: Path, options: ImageOptions = PLAIN) -> SlideReader:
    """Open an image for regions: OpenSlide for slides, tifffile for TIFF, zarr for OME-Zarr, Pillow for the rest."""
    suffix = file.suffix.lower()
    if suffix == ZARR_SUFFIX:
        return OmeZarrReader(file)
    if suffix in SLIDE_SUFFIXES:
        return OpenSlideReader(file, options.origin)
    if suffix in {".tif", ".tiff"}:
        return TiffReader(file, options)
    return ArrayReader(file, options.orientation)


class ArrayReader:
    """A file that Pillow decodes whole; transparent pixels count as outside the tissue."""

    note = ""

    def __init__(self, file: Path, orientation: Orientation = "refuse") -> None:
        self._rgb, self._opaque = decode_file(file, orientation)
        self.height, self.width = self._rgb.shape[:2]

    def stated_um_per_px(self) -> float | None:
        return None  # resolutions of PNG and JPEG are a printer's

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._rgb[y : y + height, x : x + width]

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        return self._opaque is None or bool(self._opaque[y : y + height, x : x + width].all())
