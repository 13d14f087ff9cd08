"""Decode small image files to uint8 RGB, and how files of several readings are read."""

import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image
from PIL.ImageFile import ImageFile

from cellpatch.data.images.plain_files import decode_plain

MAX_PIXELS = 89_478_485  # Pillow's own limit for a file that it decodes whole
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
SLIDE_SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"}
ZARR_SUFFIX = ".zarr"
# What tifffile, zarr and their codecs raise on damaged files: seen on thousands of mutations (tests/fuzz_inputs.py).
READ_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)
_EIGHT_BIT_MODES = {"RGB", "L", "P", "RGBA", "LA"}
_ORIENTATION = 274  # EXIF's tag, and TIFF's
_TURNED = range(2, 9)  # its values but 1, upright
Orientation = Literal["refuse", "upright", "stored"]


@dataclass(frozen=True)
class ImageOptions:
    """How images are read where a file allows more than one reading.

    `orientation` of a file whose tag states a rotation: `refuse` it, turn it `upright` as viewers show it, or take
    pixels as `stored`. `scene` picks an image of a file that holds several (None: the only one that is not much smaller
    than the largest). `origin` of a slide's points: its scanned `bounds`, as QuPath counts, or the `slide`'s corner.
    """

    orientation: Orientation = "refuse"
    scene: int | None = None
    origin: Literal["bounds", "slide"] = "bounds"


PLAIN = ImageOptions()


def read_rgb(file: str | Path, orientation: Orientation = "refuse") -> UInt8[np.ndarray, "h w 3"]:
    """Decode one small image; grey and palette become RGB, a fully opaque alpha is dropped.

    Raises ValueError if it is missing, empty, truncated, too large, transparent, not 8 bits a channel, holds several
    images, or states a rotation and `orientation` is "refuse".
    """
    rgb, opaque = decode_file(file, orientation)
    if opaque is not None:
        raise ValueError(f"{file}: has transparent pixels; flatten it onto its background first")
    return rgb


def check_orientation(file: str | Path, value: object, orientation: Orientation) -> int:
    """The turn that pixels need, 1 for none; raises ValueError if the file asks for one and none was chosen."""
    asked = value if isinstance(value, int) and value in _TURNED else 1
    if asked == 1 or orientation == "stored":
        return 1
    if orientation == "refuse":
        raise ValueError(
            f"{file}: its orientation tag is {asked}, so viewers show it turned or mirrored and points may count in "
            "either; set data.orientation=upright (as viewers show it) or stored (as the pixels lie in the file)"
        )
    return asked


def turned(array: Shaped[np.ndarray, "h w ..."], orientation: int) -> Shaped[np.ndarray, "h2 w2 ..."]:
    """An array of pixels brought upright from an orientation of EXIF."""
    if orientation == 1:
        return array
    steps: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: np.fliplr,
        3: lambda image: np.rot90(image, 2),
        4: np.flipud,
        5: lambda image: np.swapaxes(image, 0, 1),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: np.rot90(np.swapaxes(image, 0, 1), 2),
        8: lambda image: np.rot90(image, 1),
    }
    return np.ascontiguousarray(steps[orientation](array))


def decode_file(
    file: str | Path, orientation: Orientation
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"] | None]:
    """Pixels of an image, and which of them are opaque (None: all)."""
    try:
        status = os.stat(file)  # noqa: PTH116 (faster on hundreds of thousands of names)
    except OSError as error:
        raise ValueError(f"{file}: no such image") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{file}: no such image")
    if not status.st_size:
        raise ValueError(f"{file}: is empty (zero bytes)")
    if (plain := _read_plain(file, status.st_size)) is not None:
        return plain, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # rejected below, with its size
            image = Image.open(file)
        with image:
            _check_kind(file, image)
            turn = check_orientation(file, image.getexif().get(_ORIENTATION), orientation)
            if image.mode in ("RGB", "P", "L") and "transparency" not in image.info:
                return turned(np.asarray(image if image.mode == "RGB" else image.convert("RGB")), turn), None
            rgba = turned(np.asarray(image.convert("RGBA")), turn)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{file}: {error}") from error
    except (OSError, SyntaxError) as error:  # Pillow raises either for broken files
        raise ValueError(f"{file}: cannot be read as an image ({error})") from error
    opaque = rgba[..., 3] == 255
    return np.ascontiguousarray(rgba[..., :3]), None if opaque.all() else opaque


def _read_plain(file: str | Path, size: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a plain file, as Pillow reads them; None for others."""
    if size > 3 * MAX_PIXELS:
        return None
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 (faster on hundreds of thousands of names)
            return decode_plain(stream.read(), MAX_PIXELS)
    except OSError:
        return None


def _check_kind(file: str | Path, image: ImageFile) -> None:
    """Raise ValueError unless an opened file holds one image of a size and mode that are read."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{file}: {image.width}x{image.height} pixels, at most {MAX_PIXELS} are decoded whole; "
            "save it as a tiled TIFF"
        )
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise ValueError(f"{file}: holds {pages} images; save each as a file of its own")
    deep = ";16" in str(image.tile)  # Pillow reports 16-bit RGB files as RGB and keeps the high bytes only
    if image.mode not in _EIGHT_BIT_MODES or deep:
        got = f"{image.mode}, 16-bit" if deep else image.mode
        raise ValueError(
            f"{file}: mode must be 8-bit grey, palette, RGB or RGBA, but got {got} (16-bit, float, "
            "CMYK and bilevel images are not rescaled silently)"
        )
