"""OME-Zarr images, read by region."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cellpatch.data.images.scale import check_scale, to_um


class OmeZarrReader:
    """The finest level of an OME-Zarr image (versions 0.4 and 0.5): 8-bit, one plane, one, three or four channels.

    Raises ValueError if it is no such image.
    """

    note = ""

    def __init__(self, folder: Path) -> None:
        import zarr

        if not folder.is_dir():
            raise ValueError(f"{folder}: no such image")
        try:
            attributes = _attributes(folder)
            image = attributes.get("ome", attributes)["multiscales"][0]
            level = image["datasets"][0]
            names = [str(axis["name"]) for axis in image["axes"]]
            path = str(level["path"])
            if not (folder / path).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{path!r} points outside")
            array: Any = zarr.open_array(str(folder / path), mode="r")
        except (OSError, ValueError, LookupError, TypeError) as error:
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
        steps = [each["scale"] for each in level.get("coordinateTransformations", []) if each.get("type") == "scale"]
        units = {str(axis["name"]): axis.get("unit") for axis in image["axes"]}
        self._stated: list[float | None] = [None, None]
        if steps and units.get("x") is not None:
            self._stated = [to_um(float(steps[0][names.index(axis)]), units.get(axis)) for axis in "xy"]
        self._folder = folder

    def stated_um_per_px(self) -> float | None:
        return check_scale(self._folder, self._stated[0], self._stated[1], "OME-Zarr's scale")

    def region(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
        pixels = self._read(x, y, width, height)
        return np.repeat(pixels, 3, axis=-1) if self._channels == 1 else np.ascontiguousarray(pixels[..., :3])

    def opaque(self, x: int, y: int, width: int, height: int) -> bool:
        return self._channels < 4 or bool((self._read(x, y, width, height)[..., 3] == 255).all())

    def _read(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "h w c"]:
        spans: dict[str, slice | int] = {"y": slice(y, y + height), "x": slice(x, x + width), "c": slice(None)}
        pixels = np.asarray(self._array[tuple(spans.get(name, 0) for name in self._names)])
        left = [name for name in self._names if name in "cyx"]
        if "c" not in left:
            pixels, left = pixels[..., None], [*left, "c"]
        return np.transpose(pixels, [left.index(name) for name in "yxc"])


def _attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group of Zarr 2 or 3."""
    if (folder / ".zattrs").is_file():
        return dict(json.loads((folder / ".zattrs").read_text(encoding="utf-8")))
    return dict(json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"])
