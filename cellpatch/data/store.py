"""The cell store: shards of uint8 crops, cells.parquet and manifest.json, whole or absent."""

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from jaxtyping import Int, UInt8

FORMAT_VERSION = 1
SHARD_ROWS = 4096  # 54 MB at a stored side of 66 px: one shard is all that a writer holds in memory

_CELLS = pa.schema(
    [
        ("cell_id", pa.string()),
        ("class", pa.dictionary(pa.int32(), pa.string())),
        ("specimen", pa.dictionary(pa.int32(), pa.string())),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("source", pa.string()),
        ("split", pa.string()),  # null unless the source brings its own train/validation/test
        (
            "digest",
            pa.binary(16),
        ),  # blake2b of the crop's bytes: the audit finds equal crops without reading any
    ]
)


@dataclass(frozen=True)
class Geometry:
    """Side and scale of a stored crop.

    `crop_px` is the side that a model is meant to see, `margin_px` what lies around it on each side (it
    feeds the blur), `um_per_px` the scale or None where the source does not know it.
    """

    crop_px: int
    margin_px: int = 0
    um_per_px: float | None = None

    def __post_init__(self) -> None:
        if self.crop_px < 4 or self.margin_px < 0:
            raise ValueError(
                f"crop_px must be >= 4 and margin_px >= 0, but got crop_px={self.crop_px}, margin_px={self.margin_px}"
            )

    @property
    def side_px(self) -> int:
        return self.crop_px + 2 * self.margin_px


@dataclass(frozen=True)
class Manifest:
    """What a store holds; `files` maps each file's name to its sha256."""

    classes: list[str]
    geometry: Geometry
    cells: int
    counts: dict[str, int]  # cells per class
    dropped: dict[str, int]  # cells left out at ingest, per reason
    source: dict[str, Any]  # kind, licence, whether synthetic, parameters
    files: dict[str, str]
    format_version: int = FORMAT_VERSION

    @property
    def fingerprint(self) -> str:
        """Hash of the content: equal for equal crops, labels and specimens, wherever they lie on disk."""
        content = [self.classes, asdict(self.geometry), self.files]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass
class StoreWriter:
    """Streams crops and their rows to a folder; holds at most one shard in memory.

    Raises ValueError on crops of another shape, an unknown class or a cell_id seen before.
    """

    root: Path
    classes: Sequence[str]
    geometry: Geometry
    source: Mapping[str, Any]
    shard_rows: int = SHARD_ROWS
    dropped: Counter[str] = field(default_factory=Counter)
    _files: dict[str, str] = field(default_factory=dict, init=False)
    _filled: int = field(default=0, init=False)
    _rows: list[pa.RecordBatch] = field(default_factory=list, init=False)
    _seen: dict[str, str] = field(default_factory=dict, init=False)
    _counts: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(f"a store needs at least 2 different classes, but got {list(self.classes)}")
        side = self.geometry.side_px
        self._buffer = np.empty((self.shard_rows, side, side, 3), np.uint8)
        self._shards = 0
        self._table = pq.ParquetWriter(self.root / "cells.parquet", _CELLS)

    def add(
        self,
        crops: UInt8[np.ndarray, "n side side 3"],
        *,
        cell_id: Sequence[str],
        label: Sequence[str],
        specimen: Sequence[str],
        source: Sequence[str],
        x: Sequence[float] | None = None,
        y: Sequence[float] | None = None,
        split: Sequence[str | None] | None = None,
    ) -> None:
        """Append n crops; x and y are pixels of the source image, `source` says where each came from."""
        side = self.geometry.side_px
        if crops.shape[1:] != (side, side, 3):
            raise ValueError(f"crops must be n x {side} x {side} x 3, but got {crops.shape} from {source[0]}")
        for one_id, one_class, where in zip(cell_id, label, source, strict=True):
            if one_class not in self.classes:
                raise ValueError(f"{where}: unknown class {one_class!r}; allowed are {list(self.classes)}")
            if one_id in self._seen:
                raise ValueError(f"{where}: duplicate cell_id {one_id!r}, first seen at {self._seen[one_id]}")
            self._seen[one_id] = where
        self._counts.update(label)
        columns = {"cell_id": cell_id, "class": label, "specimen": specimen, "x": x, "y": y, "source": source}
        start = 0
        while start < len(crops):
            take = min(len(crops) - start, self.shard_rows - self._filled)
            part = slice(start, start + take)
            self._append(
                crops[part],
                {k: v and v[part] for k, v in {**columns, "split": split}.items()},
            )
            start += take

    def _append(self, crops: UInt8[np.ndarray, "n side side 3"], columns: dict[str, Any]) -> None:
        n = len(crops)
        rows = np.arange(self._filled, self._filled + n)
        self._buffer[rows[0] : rows[-1] + 1] = crops
        columns |= {
            "shard": np.full(n, self._shards),
            "row": rows,
            "digest": [hashlib.blake2b(crop.tobytes(), digest_size=16).digest() for crop in crops],
        }
        arrays = [
            pa.nulls(n, f.type) if columns[f.name] is None else pa.array(columns[f.name]).cast(f.type) for f in _CELLS
        ]
        self._rows.append(pa.record_batch(arrays, schema=_CELLS))
        self._filled += n
        if self._filled == self.shard_rows:
            self._flush()

    def _flush(self) -> None:
        if not self._filled:
            return
        name = f"crops-{self._shards:05d}.npy"
        _write_npy(self.root / name, self._buffer[: self._filled])
        self._files[name] = sha256_of(self.root / name)
        self._table.write_table(pa.Table.from_batches(self._rows).unify_dictionaries())
        self._shards, self._filled, self._rows = self._shards + 1, 0, []

    def close(self) -> Manifest:
        """Write what is left and the manifest; raises ValueError if no cell came or a class stayed empty."""
        self._flush()
        self._table.close()
        self._files["cells.parquet"] = sha256_of(self.root / "cells.parquet")
        empty = [name for name in self.classes if not self._counts[name]]
        if empty:
            raise ValueError(
                f"no cells of {empty} were left: {self._counts.total()} cells kept, dropped {dict(self.dropped)}"
            )
        manifest = Manifest(
            classes=list(self.classes),
            geometry=self.geometry,
            cells=self._counts.total(),
            counts={name: self._counts[name] for name in self.classes},
            dropped=dict(self.dropped),
            source=dict(self.source),
            files=self._files,
        )
        (self.root / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1, ensure_ascii=False))
        return manifest

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self._table.close()


def _write_npy(file: Path, array: UInt8[np.ndarray, "n side side 3"]) -> None:
    """np.save, but a full disk raises an OSError with its errno (numpy's says only how many items it wrote)."""
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data)


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def whole_or_absent(target: Path) -> Iterator[Path]:
    """Give a temporary sibling folder that becomes `target` on success and vanishes on any error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise OSError(error.errno, f"no room to write {target}; nothing was left there") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_once(target: Path, fill: Callable[[Path], object]) -> None:
    """Let exactly one of many processes fill the folder `target`; the others wait and find it there."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.exists():
            with whole_or_absent(target) as temporary:
                fill(temporary)


class CellStore:
    """A store on disk, opened read-only; crops come from the memory map by index.

    Raises ValueError on another format version, a missing or altered file.
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
            sums = dict(zip(names, pool.map(lambda name: sha256_of(root / name), names), strict=True))
        altered = [name for name in names if sums[name] != self.manifest.files[name]]
        if altered:
            raise ValueError(
                f"store {root}: the checksum of {altered} differs from manifest.json: "
                "delete the folder and prepare it again"
            )
        self.cells: pd.DataFrame = pq.read_table(root / "cells.parquet").to_pandas()
        codes = pd.Categorical(self.cells["class"], categories=self.manifest.classes).codes
        self.labels: Int[np.ndarray, " n"] = codes.astype(np.int64)  # index into the manifest's classes
        self._shard = self.cells["shard"].to_numpy()
        self._row = self.cells["row"].to_numpy()

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def _maps(self) -> list[np.memmap]:
        names = sorted(name for name in self.manifest.files if name.endswith(".npy"))
        return [np.load(self.root / name, mmap_mode="r", allow_pickle=False) for name in names]

    def crops(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b side side 3"]:
        """Copy the crops of the given cells out of the memory map, in the order given."""
        side = self.geometry.side_px
        out = np.empty((len(indices), side, side, 3), np.uint8)
        shards, rows = self._shard[indices], self._row[indices]
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            out[here] = self._maps[shard][rows[here]]
        return out


def read_manifest(root: Path) -> Manifest:
    """Read manifest.json; raises ValueError if it is absent, unreadable or of another format version."""
    file = root / "manifest.json"
    if not file.exists():
        raise ValueError(f"{root} is not a cell store: it has no manifest.json")
    try:
        fields = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not readable as JSON: {error}") from error
    if fields.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{file}: format version must be {FORMAT_VERSION}, but got {fields.get('format_version')}: "
            "delete the folder and prepare it again"
        )
    return Manifest(**{**fields, "geometry": Geometry(**fields["geometry"])})
