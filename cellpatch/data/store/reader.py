"""The cell store: shards of uint8 crops, cells.parquet and manifest.json."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, Shaped, UInt8
from pydantic import TypeAdapter, ValidationError

from cellpatch.data.crop_limits import MAX_SIDE_PX
from cellpatch.data.store.intake import Intake
from cellpatch.runtime.atomic_io import sha256_of
from cellpatch.runtime.errors import SHARING, owner_of
from cellpatch.runtime.json_types import Json

FORMAT_VERSION = 3


@dataclass(frozen=True)
class Geometry:
    """Side and scale of a stored crop.

    `crop_px` is the side that a model sees. `margin_px` is stored around it on each side and feeds the blur.
    `um_per_px` is the scale, None where the source does not state it. Raises ValueError if a side is too small or
    too large.
    """

    crop_px: int
    margin_px: int = 0
    um_per_px: float | None = None

    def __post_init__(self) -> None:
        if self.crop_px < 4 or self.margin_px < 0:
            raise ValueError(
                f"crop_px must be >= 4 and margin_px >= 0, but got crop_px={self.crop_px}, margin_px={self.margin_px}"
            )
        if self.side_px > MAX_SIDE_PX:
            raise ValueError(
                f"a crop with its margin must be at most {MAX_SIDE_PX} px wide, but got {self.side_px} "
                f"(crop_px={self.crop_px}, margin_px={self.margin_px})"
            )

    @property
    def side_px(self) -> int:
        """Side of the stored crop: with its margin."""
        return self.crop_px + 2 * self.margin_px

    def __str__(self) -> str:
        margin = f" and a margin of {self.margin_px} px" if self.margin_px else " without a margin"
        scale = "their scale is not stated" if self.um_per_px is None else f"at {self.um_per_px:g} um per px"
        return f"crops of {self.crop_px} px{margin}, {scale}"

    @property
    def field_um(self) -> float | None:
        """Side of what a model sees, in micrometres."""
        return None if self.um_per_px is None else self.crop_px * self.um_per_px


@dataclass(frozen=True)
class Manifest:
    """What a store contains; `files` maps each file's name to its sha256."""

    classes: list[str]
    geometry: Geometry
    cells: int
    counts: dict[str, int]  # cells per class
    dropped: dict[str, int]  # objects left out at ingest, per reason
    joined: dict[str, int]  # cells whose class name was joined with another spelling
    doubtful: dict[str, int]  # cells that somebody should look at, per reason
    source: Json  # kind, licence, whether synthetic, parameters
    files: dict[str, str]
    fingerprint: str  # of the cells alone: the same whatever the shards, the source's paths or the Parquet writer
    format_version: int = FORMAT_VERSION

    @property
    def intake(self) -> Intake:
        """What happened to the input's objects."""
        return Intake(Counter(self.dropped), Counter(self.joined), Counter(self.doubtful))


class CellStore:
    """A store on disk, opened read-only; crops are read from the memory map by index.

    `verify` compares the checksum of every file, else that of cells.parquet alone. Raises ValueError on another format
    version, a missing file or an altered one. Of cells.parquet what is asked for is read, column by column or row by
    row: all of it takes gigabytes for ten million cells.
    """

    def __init__(self, root: Path, verify: bool = True) -> None:
        self.root = root
        self.manifest = read_manifest(root)
        self.geometry = self.manifest.geometry
        names = self.manifest.files if verify else ["cells.parquet"]
        missing = [name for name in self.manifest.files if not (root / name).exists()]
        if missing:
            raise ValueError(f"store {root} lacks {missing}: delete the folder and prepare it again")
        with ThreadPoolExecutor() as pool:
            checksums = dict(zip(names, pool.map(lambda name: sha256_of(root / name), names), strict=True))
        altered = [name for name in names if checksums[name] != self.manifest.files[name]]
        if altered:
            raise ValueError(
                f"store {root}: the checksum of {altered} differs from manifest.json: "
                "delete the folder and prepare it again"
            )
        table = self._read(["class", "shard", "row"])
        self.labels = _labels(table["class"], self.manifest.classes)
        self._shard = table["shard"].to_numpy()
        self._row = table["row"].to_numpy()

    def __reduce__(self) -> tuple[type["CellStore"], tuple[Path, bool]]:
        """Another process opens the same folder; pickled memory maps would be all crops."""
        return CellStore, (self.root, False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """All of cells.parquet."""
        return self._read(None).to_pandas()

    @cached_property
    def specimens(self) -> pd.Categorical:
        """Each cell's specimen; the categories are sorted."""
        found = self.column("specimen").to_pandas().cat
        return pd.Categorical(found.reorder_categories(sorted(found.categories)))

    @cached_property
    def digests(self) -> Shaped[np.ndarray, " n"]:
        """The 16 bytes of each crop's digest, of the type S16."""
        digests, start = np.empty(len(self), "S16"), 0
        for chunk in self.column("digest").chunks:
            digests[start : start + len(chunk)] = np.frombuffer(
                chunk.buffers()[1], "S16", len(chunk), 16 * chunk.offset
            )
            start += len(chunk)
        return digests

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of cells.parquet."""
        return self._read([name])[name]

    def has_values(self, name: str) -> bool:
        """Whether any cell has a value in a column of cells.parquet, by the file's statistics."""
        with self._parquet() as file:
            place = file.schema_arrow.get_field_index(name)
            groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
            return any(
                column.statistics is None or column.statistics.null_count < column.num_values
                for column in (group.column(place) for group in groups)
            )

    def rows(self, indices: Int[np.ndarray, " m"]) -> pd.DataFrame:
        """These rows of `cells`, in the order of `indices`; a group of rows of the file is in memory at once."""
        order = np.argsort(indices, kind="stable")
        ordered, parts, start = indices[order], [], 0
        with self._parquet() as file:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                first, last = np.searchsorted(ordered, [start, end])
                if first < last or not group:
                    parts.append(file.read_row_group(group).take(ordered[first:last] - start))
                start = end
        found = pa.concat_tables(parts).unify_dictionaries().take(np.argsort(order)).to_pandas()
        return found.set_index(indices)

    def _read(self, columns: list[str] | None) -> pa.Table:
        with self._readable():
            # without a buffer ahead: of 2000 groups of rows, three columns take 0.4 s, not 1.4, and 80 MB less
            return pq.read_table(self.root / "cells.parquet", columns=columns, partitioning=None, pre_buffer=False)

    @contextmanager
    def _parquet(self) -> Iterator[pq.ParquetFile]:
        with self._readable(), pq.ParquetFile(self.root / "cells.parquet") as file:
            yield file

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Raise ValueError where cells.parquet cannot be read."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"store {self.root}: cells.parquet cannot be read ({error}): {_AGAIN}") from error

    @cached_property
    def _maps(self) -> list[np.memmap]:
        names = sorted(name for name in self.manifest.files if name.endswith(".npy"))
        return [np.load(self.root / name, mmap_mode="r", allow_pickle=False) for name in names]

    def crops(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b side side 3"]:
        """Copy the crops of the given cells out of the memory map, in the order of `indices`."""
        side = self.geometry.side_px
        crops = np.empty((len(indices), side, side, 3), np.uint8)
        shards, rows = self._shard[indices], self._row[indices]
        for shard in np.unique(shards):
            in_shard = np.flatnonzero(shards == shard)
            crops[in_shard] = self._maps[shard][rows[in_shard]]
        return crops


def _labels(classes: pa.ChunkedArray, names: Sequence[str]) -> Int[np.ndarray, " n"]:
    """The place of each cell's class among `names`, chunk by chunk: each has a dictionary of its own."""
    place = {name: code for code, name in enumerate(names)}
    labels, start = np.empty(len(classes), np.int64), 0
    for chunk in classes.chunks:
        codes = np.array([place[name] for name in chunk.dictionary.to_pylist()], np.int64)
        labels[start : start + len(chunk)] = codes[chunk.indices.to_numpy()]
        start += len(chunk)
    return labels


def read_manifest(root: Path) -> Manifest:
    """Read manifest.json; raises ValueError if it is missing, unreadable or of another format version."""
    file = root / "manifest.json"
    if not file.exists():
        raise ValueError(f"{root} is not a cell store: it has no manifest.json")
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise ValueError(f"{file} cannot be read: {owner_of(root)}; {SHARING}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not readable as JSON: {error}") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{file}: format version must be {FORMAT_VERSION}, but got {version}: "
            "delete the folder and prepare it again"
        )
    try:
        manifest: Manifest = _MANIFEST.validate_python(fields)
    except ValidationError as error:
        raise ValueError(f"{file} is not a manifest ({error.errors()[0]['loc']}): {_AGAIN}") from error
    if {Path(name).name for name in manifest.files} != set(manifest.files) or "cells.parquet" not in manifest.files:
        raise ValueError(f"{file}: files must be names in its folder, cells.parquet among them: {_AGAIN}")
    return manifest


_AGAIN = "delete the folder and prepare it again"
_MANIFEST = TypeAdapter(Manifest)  # built once: a schema, not state
