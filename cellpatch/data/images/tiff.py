"""TIFF files read by region: tiled, pyramidal, OME, planar."""

import itertools
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cellpatch.data.images.pixels import MAX_PIXELS, PLAIN, READ_ERRORS, ImageOptions, check_orientation, turned
from cellpatch.data.images.scale import ome_um_per_px, resolution_um_per_px

_CACHE_BYTES = 2**26  # of decoded tiles
_MUCH_SMALLER = 0.25  # of the largest image's pixels: a label, a macro, a thumbnail


class TiffReader:
    """The full-resolution level of a TIFF, decoded tile by tile if it has tiles.

    A region with a tile that the file states but does not hold (a sparse TIFF) counts as transparent. Raises ValueError
    if the file is not a TIFF, is cut off, has several images of which none is chosen, or is not one 8-bit plane of
    grey, RGB or RGBA.
    """

    def __init__(self, file: Path, options: ImageOptions = PLAIN) -> None:
        import tifffile  # a second to import, and only TIFF needs it

        if not file.is_file():
            raise ValueError(f"{file}: no such image")
        try:
            self._tiff = tifffile.TiffFile(file)
            scenes = list(self._tiff.series)
            index, self.note = _choose_scene(file, scenes, options.scene)
            level = scenes[index].levels[0]
            page: Any = level.keyframe
            axes, shape = level.axes, level.shape
            turn = check_orientation(file, _tag(page, "Orientation", 1), options.orientation)
            colours = getattr(page.photometric, "name", "unknown")
            self._page, self._scene = page, index
            self._sparse = _check_segments(level, file.stat().st_size)
        except (tifffile.TiffFileError, ElementTree.ParseError, *READ_ERRORS) as error:
            if str(error).startswith(str(file)):
                raise
            raise ValueError(f"{file}: cannot be read as a TIFF ({error})") from error
        self._to_rgb = _rgb_reader(axes, shape)
        if self._to_rgb is None or level.dtype != np.uint8 or colours not in ("RGB", "MINISBLACK", "YCBCR"):
            raise ValueError(
                f"{file}: must hold one 8-bit grey, RGB or RGBA plane, but got {level.dtype} {colours} with axes "
                f"{axes} {shape}"
            )
        self._file = file
        self.height, self.width = (shape[axes.index(axis)] for axis in "YX")
        self._has_alpha = "S" in axes and shape[axes.index("S")] == 4
        self._upright: np.ndarray | None = None
        self._tiles: dict[tuple[int, int], np.ndarray] = {}
        self._tile_px: tuple[int, int] | None = None
        if page.is_tiled and turn == 1:
            self._array: Any = self._open_tiles(level)
            self._tile_px = int(page.tilelength), int(page.tilewidth)
        elif self.width * self.height <= MAX_PIXELS:
            self._array = self._whole(level)
            if turn != 1:
                self._upright = turned(self._read(0, 0, self.width, self.height), turn)
                self.height, self.width = self._upright.shape[:2]
        else:
            raise ValueError(
                f"{file}: {self.width}x{self.height} pixels in strips or turned, at most {MAX_PIXELS} are decoded "
                "whole; save it as an upright tiled TIFF"
            )

    def stated_um_per_px(self) -> float | None:
        try:
            return _um_per_px(self._file, self._tiff, self._page, self._scene)
        except ElementTree.ParseError as error:
            raise ValueError(f"{self._file}: its OME metadata is not readable as XML ({error})") from error

    def _open_tiles(self, level: Any) -> Any:
        """The level as an array that decodes the tiles of a region; of a pyramid its first level alone."""
        import zarr

        opened: Any = zarr.open(level.aszarr(level=0), mode="r")
        return opened if isinstance(opened, zarr.Array) else opened["0"]

    def _whole(self, level: Any) -> np.ndarray:
        """The decoded level; raises ValueError if that fails."""
        try:
            return level.asarray()
        except READ_ERRORS as error:
            raise ValueError(f"{self._file}: cannot be decoded ({error})") from error

    def _read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A region with all its channels; raises ValueError if it cannot be decoded."""
        if self._upright is not None:
            return self._upright[y : y + height, x : x + width]
        if self._tile_px is None:
            return self._decode(x, y, width, height)
        tile_height, tile_width = self._tile_px
        rows, columns = self._tile_ranges(x, y, width, height)
        strips = []
        for row in rows:
            top = row * tile_height
            lines = slice(max(y - top, 0), y + height - top)
            parts = [
                self._tile(row, column)[lines, max(x - left, 0) : x + width - left]
                for column in columns
                for left in [column * tile_width]
            ]
            strips.append(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def _tile_ranges(self, x: int, y: int, width: int, height: int) -> tuple[range, range]:
        """Rows and columns of the tiles of a region."""
        assert self._tile_px is not None
        tile_height, tile_width = self._tile_px
        return (
            range(y // tile_height, -(-(y + height) // tile_height)),
            range(x // tile_width, -(-(x + width) // tile_width)),
        )

    def _tile(self, row: int, column: int) -> np.ndarray:
        """A decoded tile; the last ones stay in memory, for many cells lie in one."""
        assert self._tile_px is not None
        key = row, column
        if key not in self._tiles:
            height, width = self._tile_px
            y, x = row * height, column * width
            tile = self._decode(x, y, min(width, self.width - x), min(height, self.height - y))
            while self._tiles and (len(self._tiles) + 1) * tile.nbytes > _CACHE_BYTES:
                del self._tiles[next(iter(self._tiles))]
            self._tiles[key] = tile
        else:
            self._tiles[key] = self._tiles.pop(key)  # the last used is the last to go
        return self._tiles[key]

    def _decode(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        assert self._to_rgb is not None
        try:
            return self._to_rgb(self._array, slice(y, y + height), slice(x, x + width))
        except READ_ERRORS as error:
            raise ValueError(f"{self._file}: cannot decode the region at x={x}, y={y} ({error})") from error

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        return np.ascontiguousarray(self._read(x, y, width, height)[..., :3])

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        if self._sparse and not self._sparse.isdisjoint(itertools.product(*self._tile_ranges(x, y, width, height))):
            return False
        return not self._has_alpha or bool((self._read(x, y, width, height)[..., 3] == 255).all())


def _check_segments(level: Any, file_bytes: int) -> set[tuple[int, int]]:
    """Rows and columns of the tiles that a level states and lacks: decoders read them as black.

    Raises ValueError if the file ends before a strip or tile does, lacks a strip, or lacks a page of the image.
    """
    page = level.keyframe
    stated = math.prod(page.chunked)
    rows, columns = page.chunked[:2] if page.axes == "YXS" else page.chunked[-2:]
    lacking: set[tuple[int, int]] = set()
    for each in level.pages:
        if each is None:
            raise ValueError("a page of the image is missing")
        offsets, sizes = np.array(each.dataoffsets, np.float64), np.array(each.databytecounts, np.float64)
        if len(offsets) != len(sizes) or (len(offsets) < stated and not (page.is_contiguous and len(offsets) == 1)):
            raise ValueError(f"it has {stated} strips or tiles, but states where {len(offsets)} of them are")
        end = (offsets + sizes).max()
        if end > file_bytes:
            raise ValueError(f"it is cut off: a strip or tile ends at byte {end:.0f}, the file at {file_bytes}")
        absent = np.flatnonzero((offsets == 0) | (sizes == 0))
        if len(absent) and not page.is_tiled:
            raise ValueError(f"its strip {absent[0]} is missing")
        lacking.update((number // columns % rows, number % columns) for number in absent.tolist())
    return lacking


def _choose_scene(file: Path, scenes: list[Any], chosen: int | None) -> tuple[int, str]:
    """Index of the image to read, and a note where the file holds several; raises ValueError if it is not clear."""

    def pixels(scene: Any) -> int:
        return int(np.prod([size for axis, size in zip(scene.axes, scene.shape, strict=True) if axis in "YX"]))

    listed = "; ".join(f"{i}: {scene.name!r} {scene.axes} {scene.shape}" for i, scene in enumerate(scenes))
    if not scenes:
        raise ValueError(f"{file}: cannot be read as a TIFF (it holds no image)")
    if chosen is not None and len(scenes) > 1:
        if not 0 <= chosen < len(scenes):
            raise ValueError(f"{file}: data.scene must be one of its images ({listed}), but got {chosen}")
        return chosen, f"images of which scene {chosen} was read (data.scene)"
    largest = max(range(len(scenes)), key=lambda i: pixels(scenes[i]))
    rivals = [scene for scene in scenes if pixels(scene) > _MUCH_SMALLER * pixels(scenes[largest])]
    if len(rivals) > 1:
        raise ValueError(f"{file}: holds {len(scenes)} images ({listed}); choose one with data.scene=N")
    note = f"images of which the largest of {len(scenes)} scenes was read (data.scene)" if len(scenes) > 1 else ""
    return largest, note


def _tag(page: Any, name: str, missing: Any) -> Any:
    tag = page.tags.get(name)
    value = missing if tag is None else tag.value
    return int(value) if name == "Orientation" else value


def _um_per_px(file: Path, tiff: Any, page: Any, scene: int) -> float | None:
    """The scale by OME metadata, else by ImageJ's or TIFF's resolution."""
    if tiff.ome_metadata is not None:
        return ome_um_per_px(file, tiff.ome_metadata, scene)
    unit = (tiff.imagej_metadata or {}).get("unit")
    tags = {name: _tag(page, name, missing) for name, missing in (("ResolutionUnit", 1), ("XResolution", (0, 1)))}
    tags["YResolution"] = _tag(page, "YResolution", tags["XResolution"])
    return resolution_um_per_px(file, tags, str(unit).replace("\\u00B5", "\u00b5") if unit else None)


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
