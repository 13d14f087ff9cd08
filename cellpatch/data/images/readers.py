"""Read images as uint8 RGB: small files whole, large ones by region."""

import os
import stat
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

MAX_PIXELS = 89_478_485  # Pillow's own limit for a file that it decodes whole
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
SLIDE_SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"}
_EIGHT_BIT_MODES = {"RGB", "L", "P", "RGBA", "LA"}


@runtime_checkable
class SlideReader(Protocol):
    """An image read by region; `um_per_px` is None where the file does not state its scale."""

    width: int
    height: int
    um_per_px: float | None

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of a region inside the image; x and y are its upper left pixel."""
        ...

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether no pixel of a region is transparent."""
        ...


def read_rgb(file: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """Decode one small image; grey and palette become RGB, a fully opaque alpha is dropped.

    Raises ValueError if it is missing, empty, truncated, too large, transparent or not 8 bits a channel.
    """
    rgb, opaque = _decode(file)
    if opaque is not None:
        raise ValueError(f"{file}: has transparent pixels; flatten it onto its background first")
    return rgb


def open_slide(file: Path) -> SlideReader:
    """Open an image for regions: OpenSlide for slides, tifffile for TIFF, Pillow for the rest."""
    suffix = file.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return OpenSlideReader(file)
    if suffix in {".tif", ".tiff"}:
        return TiffReader(file)
    return ArrayReader(file)


def _decode(file: str | Path) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"] | None]:
    """Pixels of an image, and which of them are opaque (None: all)."""
    try:
        status = os.stat(file)  # noqa: PTH116 (faster on hundreds of thousands of names)
    except OSError as error:
        raise ValueError(f"{file}: no such image") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{file}: no such image")
    if not status.st_size:
        raise ValueError(f"{file}: is empty (zero bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # rejected below, with its size
            image = Image.open(file)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{file}: {image.width}x{image.height} pixels, at most {MAX_PIXELS} are decoded whole; "
                    "save it as a tiled TIFF"
                )
            deep = ";16" in str(image.tile)  # Pillow reports 16-bit RGB files as RGB and keeps the high bytes only
            if image.mode not in _EIGHT_BIT_MODES or deep:
                got = f"{image.mode}, 16-bit" if deep else image.mode
                raise ValueError(
                    f"{file}: mode must be 8-bit grey, palette, RGB or RGBA, but got {got} (16-bit, float, "
                    "CMYK and bilevel images are not rescaled silently)"
                )
            if image.mode in ("RGB", "P", "L") and "transparency" not in image.info:
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), None
            rgba = np.asarray(image.convert("RGBA"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{file}: {error}") from error
    except (OSError, SyntaxError) as error:  # Pillow raises either for broken files
        raise ValueError(f"{file}: cannot be read as an image ({error})") from error
    opaque = rgba[..., 3] == 255
    return np.ascontiguousarray(rgba[..., :3]), None if opaque.all() else opaque


class ArrayReader:
    """A file that Pillow decodes whole; transparent pixels count as outside the tissue."""

    um_per_px: float | None = None

    def __init__(self, file: Path) -> None:
        self._rgb, self._opaque = _decode(file)
        self.height, self.width = self._rgb.shape[:2]

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._rgb[y : y + height, x : x + width]

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        return self._opaque is None or bool(self._opaque[y : y + height, x : x + width].all())


class TiffReader:
    """The full-resolution level of a (tiled, pyramidal, OME) TIFF, decoded tile by tile if it has tiles."""

    def __init__(self, file: Path) -> None:
        import tifffile  # a second to import, and only TIFF needs it
        import zarr

        if not file.is_file():
            raise ValueError(f"{file}: no such image")
        try:
            self._tiff = tifffile.TiffFile(file)
            level = self._tiff.series[0].levels[0]
            page: Any = level.keyframe
            axes, shape = level.axes, level.shape
            self.um_per_px = _ome_um_per_px(self._tiff.ome_metadata)
        except (tifffile.TiffFileError, OSError, ValueError, LookupError, ElementTree.ParseError) as error:
            raise ValueError(f"{file}: cannot be read as a TIFF ({error})") from error
        self._to_rgb = _rgb_reader(axes, shape)
        colours = page.photometric.name if page.photometric is not None else "unknown"
        if self._to_rgb is None or level.dtype != np.uint8 or colours not in ("RGB", "MINISBLACK", "YCBCR"):
            raise ValueError(
                f"{file}: must hold one 8-bit grey, RGB or RGBA plane, but got {level.dtype} {colours} with axes "
                f"{axes} {shape}"
            )
        self._file = file
        self.height, self.width = (shape[axes.index(axis)] for axis in "YX")
        self._has_alpha = "S" in axes and shape[axes.index("S")] == 4
        if page.is_tiled:
            self._array: Any = zarr.open(level.aszarr(), mode="r")
        elif self.width * self.height <= MAX_PIXELS:
            self._array = self._whole(level)
        else:
            raise ValueError(
                f"{file}: {self.width}x{self.height} pixels in strips, at most {MAX_PIXELS} are decoded whole; "
                "save it as a tiled TIFF"
            )

    def _whole(self, level: Any) -> np.ndarray:
        """The decoded level; raises ValueError if that fails."""
        try:
            return level.asarray()
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self._file}: cannot be decoded ({error})") from error

    def _read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A region with all its channels; raises ValueError if it cannot be decoded."""
        assert self._to_rgb is not None
        try:
            return self._to_rgb(self._array, slice(y, y + height), slice(x, x + width))
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self._file}: cannot decode the region at x={x}, y={y} ({error})") from error

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        return np.ascontiguousarray(self._read(x, y, width, height)[..., :3])

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        return not self._has_alpha or bool((self._read(x, y, width, height)[..., 3] == 255).all())


def _rgb_reader(axes: str, shape: tuple[int, ...]) -> Callable[[Any, slice, slice], np.ndarray] | None:
    """A function that reads [h, w, channels] from an array of these axes; None if it is not a 2-D colour image."""
    channels = shape[-1] if axes == "YXS" else shape[0]
    if axes == "YX":
        return lambda array, y, x: np.repeat(np.asarray(array[y, x])[..., None], 3, axis=-1)
    if axes == "YXS" and channels in (3, 4):
        return lambda array, y, x: np.asarray(array[y, x])
    if axes in ("SYX", "CYX") and channels == 3:
        return lambda array, y, x: np.moveaxis(np.asarray(array[:, y, x]), 0, -1)
    return None


def _ome_um_per_px(xml: str | None) -> float | None:
    """Micrometres per pixel by OME metadata, or None where it states none."""
    if xml is None:
        return None
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")  # noqa: S314 (expat rejects entity bombs since 2.4.1)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    unit = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3}.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = float(pixels.attrib["PhysicalSizeX"])
    return size * unit if unit is not None and size > 0 else None


class OpenSlideReader:
    """Level 0 of a whole slide through OpenSlide (extra `slides`)."""

    def __init__(self, file: Path) -> None:
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
        mpp = self._slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
        self.um_per_px = None if mpp is None else float(mpp)

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        return np.asarray(self._slide.read_region((x, y), 0, (width, height)))[..., :3]

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        return bool((np.asarray(self._slide.read_region((x, y), 0, (width, height)))[..., 3] == 255).all())
