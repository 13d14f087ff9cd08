"""OME-Zarr images, read by region."""

import itertools
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cellpatch.data.images.pixels import MAX_PIXELS, READ_ERRORS
from cellpatch.data.images.scale import check_scale, to_um


class OmeZarrReader:
    """The finest level of an OME-Zarr image (versions 0.4 and 0.5): 8-bit, one plane, one, three or four channels.

    A region without a stored chunk counts as transparent. Raises ValueError if it is no such image.
    """

    note = ""

    def __init__(self, folder: Path) -> None:
        import zarr

        if not folder.is_dir():
            raise ValueError(f"{folder}: no such image")
        try:
            _check_files(folder)
            attributes = _attributes(folder)
            image = attributes.get("ome", attributes)["multiscales"][0]
            level = image["datasets"][0]
            names = [str(axis["name"]) for axis in image["axes"]]
            path = str(level["path"])
            if not (folder / path).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{path!r} points outside")
            array: Any = zarr.open_array(str(folder / path), mode="r")
            transforms = level.get("coordinateTransformations", [])
            steps = [each["scale"] for each in transforms if each.get("type") == "scale"]
            units = {str(axis["name"]): axis.get("unit") for axis in image["axes"]}
            self._stated: list[float | None] = [None, None]
            if steps and units.get("x") is not None:
                self._stated = [to_um(float(steps[0][names.index(axis)]), units.get(axis)) for axis in "xy"]
            if len(names) != array.ndim:
                raise ValueError(f"{len(names)} axes of {array.ndim} dimensions")
        except READ_ERRORS as error:
            raise ValueError(f"{folder}: cannot be read as an OME-Zarr image ({error})") from error
        sizes = dict(zip(names, array.shape, strict=True))
        channels = sizes.get("c", 1)
        planes = {name: size for name, size in sizes.items() if name not in "cyx" and size > 1}
        if array.dtype != np.uint8 or planes or channels not in (1, 3, 4) or not {"y", "x"} <= set(names):
            raise ValueError(
                f"{folder}: must hold one 8-bit grey, RGB or RGBA plane, but got {array.dtype} with axes {sizes}"
            )
        self._array, self._names = array, names
        self.width, self.height = sizes["x"], sizes["y"]
        self._channels = channels
        self._folder, self._level = folder, folder / path
        self._chunk_px = dict(zip(names, array.shards or array.chunks, strict=True))
        if math.prod(self._chunk_px.values()) > 4 * MAX_PIXELS:
            raise ValueError(f"{folder}: its chunks of {array.chunks} are too large to decode")

    def stated_um_per_px(self) -> float | None:
        return check_scale(self._folder, self._stated[0], self._stated[1], "OME-Zarr's scale")

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        pixels = self._read(x, y, width, height)
        return np.repeat(pixels, 3, axis=-1) if self._channels == 1 else np.ascontiguousarray(pixels[..., :3])

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        if not self._is_stored(x, y, width, height):
            return False
        return self._channels < 4 or bool((self._read(x, y, width, height)[..., 3] == 255).all())

    def _is_stored(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether all chunks of a region are files: zarr fills those that are not with a constant."""
        spans = {"y": (y, y + height), "x": (x, x + width), "c": (0, self._channels)}
        ranges = []
        for name in self._names:
            start, stop = spans.get(name, (0, 1))
            ranges.append(range(start // self._chunk_px[name], -(-stop // self._chunk_px[name])))
        keys = (self._array.metadata.encode_chunk_key(index) for index in itertools.product(*ranges))
        return all((self._level / key).is_file() for key in keys)

    def _read(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w c"]:
        spans: dict[str, slice | int] = {"y": slice(y, y + height), "x": slice(x, x + width), "c": slice(None)}
        try:
            pixels = np.asarray(self._array[tuple(spans.get(name, 0) for name in self._names)])
        except READ_ERRORS as error:
            raise ValueError(f"{self._folder}: cannot decode the region at x={x}, y={y} ({error})") from error
        left = [name for name in self._names if name in "cyx"]
        if "c" not in left:
            pixels, left = pixels[..., None], [*left, "c"]
        return np.transpose(pixels, [left.index(name) for name in "yxc"])


def _check_files(folder: Path) -> None:
    """Raise ValueError for what is neither a file nor a folder: opening a pipe or a device would never end."""
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            mode = os.stat(os.path.join(parent, name)).st_mode  # noqa: PTH116, PTH118 (a slide has many chunks)
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise ValueError(f"{folder}: {name} in {parent} is neither a file nor a folder")


def _attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group of Zarr 2 or 3."""
    if (folder / ".zattrs").is_file():
        return dict(json.loads((folder / ".zattrs").read_text(encoding="utf-8")))
    return dict(json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"])
