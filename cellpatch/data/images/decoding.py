"""Decode many square images, on several processes; imports little, since each process does so again."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cellpatch.data.crop_limits import MAX_SIDE_PX
from cellpatch.data.images.pixels import Orientation, read_rgb
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.parallel import available_workers, ordered_parallel_map

TOGETHER = 64  # files decoded together
AHEAD = 20  # of these a worker, whose results wait in memory
_WORTH_PROCESSES = 4000  # files; fewer are decoded before processes have started


def decode(
    files: Sequence[tuple[Path, str]], problems: ErrorCollector
) -> Iterator[tuple[int, UInt8[np.ndarray, "s s 3"]]]:
    """Yield square images in order, each with its index in `files`; unreadable ones are added to `problems`.

    Each file comes with its name for errors.
    """
    chunks = [[str(file) for file, _ in files[start : start + TOGETHER]] for start in range(0, len(files), TOGETHER)]
    images = chain.from_iterable(ordered_parallel_map(_read, chunks, workers_for(len(files)), AHEAD))
    for i, (rgb, (_, where)) in enumerate(zip(images, files, strict=True)):
        if isinstance(rgb, str):
            problems.add_at(where, rgb)
        else:
            yield i, rgb


def workers_for(files: int) -> int:
    """Processes that decode this many files."""
    return available_workers() if files >= _WORTH_PROCESSES else 1


def _read(files: list[str]) -> Iterable[UInt8[np.ndarray, "s s 3"] | str]:
    """Each file's image, or its error; images of one side are one array, which a process sends faster."""
    results: list[UInt8[np.ndarray, "s s 3"] | str] = []
    for file in files:
        try:
            results.append(read_square(file, None, "refuse"))
        except ValueError as error:
            results.append(str(error))
    images = [image for image in results if not isinstance(image, str)]
    one_side = len(images) == len(results) and len({image.shape for image in images}) == 1
    return np.stack(images) if one_side else results


def read_square(file: str | Path, side_px: int | None, orientation: Orientation) -> UInt8[np.ndarray, "s s 3"]:
    """An image file at `side_px` (None: as it is).

    Raises ValueError if it is unreadable (read_rgb), not square, or too large for a crop.
    """
    rgb = read_rgb(file, orientation)
    height, width = rgb.shape[:2]
    if height != width:
        raise ValueError(f"must be square, but got {width}x{height} px")
    if side_px is None and width > MAX_SIDE_PX:
        raise ValueError(f"must be at most {MAX_SIDE_PX} px wide, but got {width}")
    if side_px is None or side_px == width:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((side_px, side_px), Image.Resampling.BILINEAR))
