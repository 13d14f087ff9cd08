"""Shards of a store: .npy files of crops, each part of which any process may write."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cellpatch.runtime.atomic_io import sha256_of

SHARD_BYTES = 2**26  # 5,135 crops of 66 px


@dataclass(frozen=True)
class Place:
    """Where neighbouring crops go: a shard's file, the row of the first, and how many they are."""

    file: Path
    row: int
    crops: int


@dataclass(frozen=True)
class Shards:
    """The shards of a store below its folder: `rows` crops in each but the last."""

    folder: Path
    rows: int

    def name(self, number: int) -> str:
        """The file of a shard."""
        return f"crops-{number:05d}.npy"

    def places(self, first: int, n: int, most: int) -> Iterator[Place]:
        """Where the n crops from the first on go, at most this many together, in their order."""
        last = first + n
        while first < last:
            number, row = divmod(first, self.rows)
            crops = min(most, last - first, self.rows - row)
            yield Place(self.folder / self.name(number), row, crops)
            first += crops


def write_crops(place: Place, crops: UInt8[np.ndarray, "n side side 3"]) -> None:
    """Write crops where they belong; raises OSError where the disk is full."""
    start = len(_header(place.crops, crops.shape[1])) + place.row * crops[0].nbytes
    _write_at(place.file, start, np.ascontiguousarray(crops).data)


def finish_shard(file: Path, n: int, side: int) -> str:
    """Make a file of n written crops one that numpy reads, and return its SHA-256."""
    _write_at(file, 0, memoryview(_header(n, side)))
    return sha256_of(file)


def _write_at(file: Path, start: int, data: memoryview) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as stream:  # noqa: PTH123 (Path.open truncates)
        stream.seek(start)
        stream.write(data)


def _header(n: int, side: int) -> bytes:
    """What np.save writes before n crops; it is as long whatever n is."""
    header = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (n, side, side, 3)}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()
