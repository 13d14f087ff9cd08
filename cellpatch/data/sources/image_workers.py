"""What processes do with images for a store: decode files, cut crops; imports little, since each does so again."""

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial

import numpy as np
from jaxtyping import Float

from cellpatch.data.images.crops import CropSpec, CutCrops, ImageFolder, cut_points
from cellpatch.data.images.decoding import AHEAD, TOGETHER, read_square, workers_for
from cellpatch.data.images.pixels import Orientation
from cellpatch.data.store.digests import CropHashes, hashes_of
from cellpatch.data.store.shards import Place, Shards, write_crops
from cellpatch.runtime.parallel import ordered_parallel_map

Problems = dict[int, str]  # what is wrong with files, by their number in a part


def decode_into(
    shards: Shards, files: Sequence[str], side: int, resized: bool, orientation: Orientation
) -> Generator[tuple[slice, CropHashes | Problems], None, None]:
    """Decode files in order and write their crops into new shards; crops have this side, or are resized to it.

    Yields parts of the files with the hashes of their crops, or with their problems; then none of a part is written.
    Nothing writes any more once it is closed.
    """
    tasks, parts = [], []
    start = 0
    for place in shards.places(0, len(files), TOGETHER):
        parts.append(slice(start, start + place.crops))
        tasks.append((place, files[parts[-1]]))
        start += place.crops
    work = partial(_decode, side, resized, orientation)
    with closing(ordered_parallel_map(work, tasks, workers_for(len(files)), AHEAD)) as results:
        yield from zip(parts, results, strict=True)


def cut_and_hash(
    images: ImageFolder, spec: CropSpec, task: tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
) -> tuple[CutCrops, CropHashes] | str:
    """Crops of the points (image, x, y) with their hashes, or the reason why there are none."""
    found = cut_points(images, spec, task)
    return found if isinstance(found, str) else (found, hashes_of(found.crops))


def _decode(
    side: int, resized: bool, orientation: Orientation, task: tuple[Place, Sequence[str]]
) -> CropHashes | Problems:
    place, files = task
    crops = np.empty((len(files), side, side, 3), np.uint8)
    problems: Problems = {}
    for row, file in enumerate(files):
        try:
            crop = read_square(file, side if resized else None, orientation)
            if len(crop) != side:
                raise ValueError(f"is {len(crop)} px wide, the first image {side} px; set data.side_px to resize all")
            crops[row] = crop
        except ValueError as error:
            problems[row] = str(error)
    if problems:
        return problems
    write_crops(place, crops)
    return hashes_of(crops)
