"""Write a cell store, one shard in memory at a time."""

import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from cellpatch.data.store.reader import Geometry, Manifest
from cellpatch.runtime.atomic_io import sha256_of

log = logging.getLogger(__name__)

SHARD_BYTES = 2**26  # one shard is all that a writer holds in memory: 5,135 crops of 66 px

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
        ("digest", pa.binary(16)),  # blake2b of the crop: the audit finds equal crops without reading any
    ]
)


class StoreWriter:
    """Streams crops and their rows to a folder; holds at most one shard in memory.

    `dropped` counts, per reason, the cells that a source leaves out. Raises ValueError on crops of another
    shape, an unknown class or a cell_id seen before.
    """

    def __init__(
        self,
        root: Path,
        classes: Sequence[str],
        geometry: Geometry,
        source: Mapping[str, Any],
        shard_rows: int | None = None,
    ) -> None:
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise ValueError(f"a store needs at least 2 different classes, but got {list(classes)}")
        self.root = root
        self.classes = list(classes)
        self.geometry = geometry
        self.source = dict(source)
        self.dropped: Counter[str] = Counter()
        side = geometry.side_px
        self._buffer = np.empty((shard_rows or max(1, SHARD_BYTES // (3 * side * side)), side, side, 3), np.uint8)
        self._filled = 0
        self._rows: list[pa.RecordBatch] = []
        self._files: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._content = hashlib.sha256(json.dumps([self.classes, asdict(geometry)]).encode())
        self._table = pq.ParquetWriter(root / "cells.parquet", _CELLS)

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
        columns: dict[str, Any] = {"cell_id": cell_id, "class": label, "specimen": specimen, "source": source}
        columns |= {name: values for name, values in {"x": x, "y": y, "split": split}.items() if values is not None}
        start = 0
        while start < len(crops):
            part = slice(start, start + len(self._buffer) - self._filled)
            self._append(crops[part], {name: values[part] for name, values in columns.items()})
            start = part.stop

    def _append(self, crops: UInt8[np.ndarray, "n side side 3"], columns: dict[str, Any]) -> None:
        n = len(crops)
        rows = np.arange(self._filled, self._filled + n)
        self._buffer[self._filled : self._filled + n] = crops
        digests = [hashlib.blake2b(crop.tobytes(), digest_size=16).digest() for crop in crops]
        splits = columns.get("split", [None] * n)
        named = zip(columns["cell_id"], columns["class"], columns["specimen"], splits, digests, strict=True)
        for cell_id, label, specimen, split, digest in named:
            self._content.update(json.dumps([cell_id, label, specimen, split, digest.hex()]).encode())
        columns |= {"shard": np.full(n, len(self._files)), "row": rows, "digest": digests}
        arrays = [
            pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(n, field.type)
            for field in _CELLS
        ]
        self._rows.append(pa.record_batch(arrays, schema=_CELLS))
        self._filled += n
        if self._filled == len(self._buffer):
            self._flush()

    def _flush(self) -> None:
        if not self._filled:
            return
        name = f"crops-{len(self._files):05d}.npy"
        self._files[name] = _write_npy(self.root / name, self._buffer[: self._filled])
        self._table.write_table(pa.Table.from_batches(self._rows).unify_dictionaries())
        self._filled, self._rows = 0, []
        log.info("%s written", name)

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
            classes=self.classes,
            geometry=self.geometry,
            cells=self._counts.total(),
            counts={name: self._counts[name] for name in self.classes},
            dropped=dict(self.dropped),
            source=self.source,
            files=self._files,
            fingerprint=self._content.hexdigest(),
        )
        (self.root / "manifest.json").write_text(
            json.dumps(asdict(manifest), indent=1, ensure_ascii=False), encoding="utf-8"
        )
        return manifest

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self._table.close()


def _write_npy(file: Path, array: UInt8[np.ndarray, "n side side 3"]) -> str:
    """np.save, giving the file's SHA-256; a full disk raises an OSError with its errno (numpy's has none)."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        for part in (header.getbuffer(), array.data):
            stream.write(part)
            digest.update(part)
    return digest.hexdigest()
