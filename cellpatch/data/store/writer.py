"""Write a cell store; crops go to disk as they come."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain, repeat
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, UInt8

from cellpatch.data.store.contradictions import find_contradictions
from cellpatch.data.store.digests import CropHashes, hashes_of
from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.data.store.near_copies import NEAR_COPIES, near_groups
from cellpatch.data.store.reader import Geometry, Manifest
from cellpatch.data.store.shards import SHARD_BYTES, Shards, finish_shard, write_crops
from cellpatch.runtime.atomic_io import sha256_of
from cellpatch.runtime.json_types import Json

log = logging.getLogger(__name__)

CELL_SCHEMA = pa.schema(
    [
        ("cell_id", pa.string()),
        ("class", pa.dictionary(pa.int32(), pa.string())),
        ("specimen", pa.dictionary(pa.int32(), pa.string())),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("x", pa.float64()),  # pixels of the image
        ("y", pa.float64()),
        ("source", pa.string()),
        ("image", pa.string()),  # its path below the source's root, null for single crops
        ("site", pa.string()),  # hospital or scanner, null unless the source states it
        ("mirrored_px", pa.int16()),  # pixels from a border of the stored crop on that are mirrored, at most
        ("split", pa.string()),  # train, validation or test, null unless the source brings its own split
        ("digest", pa.binary(16)),  # blake2b of the crop: the audit finds equal crops without reading any
        ("near_group", pa.int32()),  # shared by cells that nearly equal one of another specimen, else null
    ]
)


@dataclass(frozen=True, eq=False, kw_only=True)
class CellRows:
    """The rows of n cells by column; a slice of it has the same columns.

    `source` names each cell's file and row in errors. The others are optional; CELL_SCHEMA describes them.
    """

    cell_id: Sequence[str]
    label: Sequence[str]
    specimen: Sequence[str]
    source: Sequence[str]
    x: Sequence[float] | None = None
    y: Sequence[float] | None = None
    image: Sequence[str] | None = None
    split: Sequence[str | None] | None = None
    site: Sequence[str | None] | None = None
    mirrored_px: Sequence[int] | None = None

    def __getitem__(self, part: slice) -> "CellRows":
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        parts: dict[str, Any] = {name: None if values is None else values[part] for name, values in columns.items()}
        return CellRows(**parts)


class StoreWriter:
    """Streams crops and their rows to a folder, with at most one shard's rows in memory.

    `intake` counts, per reason, what a source leaves out, joins or doubts. `contradictions` is how to treat crops
    that are equal to the last pixel and have two classes: rejected, all of them left out, or kept and counted.
    `shard_rows` is the crops in a shard (None: as many as SHARD_BYTES). Raises ValueError on crops of another shape, an
    unknown class or a repeated cell_id.
    """

    def __init__(  # four say what a store is, three have defaults that most sources take
        self,
        root: Path,
        classes: Sequence[str],
        geometry: Geometry,
        source: Json,
        shard_rows: int | None = None,
        intake: Intake | None = None,
        contradictions: Contradictions = "refuse",
    ) -> None:
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise ValueError(f"a store needs at least 2 different classes, but got {list(classes)}")
        self.root = root
        self.classes = list(classes)
        self.geometry = geometry
        self.source = dict(source)
        self.intake = intake or Intake()
        self.contradictions = contradictions
        self.mirrored = 0  # cells with mirrored pixels in their margin
        self.shards = Shards(root, shard_rows or max(1, SHARD_BYTES // (3 * geometry.side_px**2)))
        self._rows: list[CellRows] = []  # of the shard that is being written, as its digests
        self._digests: list[bytes] = []
        self._signatures: list[np.ndarray] = []  # 180 bytes a crop
        self._files: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._table = pq.ParquetWriter(root / "cells.parquet", CELL_SCHEMA)

    def add(self, crops: UInt8[np.ndarray, "n side side 3"], rows: CellRows, hashes: CropHashes | None = None) -> None:
        """Append n crops and their rows; `hashes` are theirs, where another process has computed them."""
        side, start = self.geometry.side_px, 0
        if crops.shape[1:] != (side, side, 3):
            raise ValueError(f"crops must be n x {side} x {side} x 3, but got {crops.shape} from {rows.source[0]}")
        for place in self.shards.places(self._counts.total(), len(crops), len(crops)):
            part = slice(start, start + place.crops)
            write_crops(place, crops[part])
            self.add_rows(rows[part], hashes_of(crops[part]) if hashes is None else hashes[part])
            start = part.stop

    def add_rows(self, rows: CellRows, hashes: CropHashes) -> None:
        """Append the rows of crops that are written already, to the next place of `shards`."""
        for cell_id, label, source in zip(rows.cell_id, rows.label, rows.source, strict=True):
            if label not in self.classes:
                raise ValueError(f"{source}: unknown class {label!r}; allowed are {list(self.classes)}")
            if cell_id in self._seen:
                raise ValueError(f"{source}: duplicate cell_id {cell_id!r}, first seen at {self._seen[cell_id]}")
            self._seen[cell_id] = source
        self._counts.update(rows.label)
        self.mirrored += 0 if rows.mirrored_px is None else sum(pixels > 0 for pixels in rows.mirrored_px)
        self._rows.append(rows)
        self._digests += hashes.digests
        self._signatures.append(hashes.signatures)
        if len(self._digests) == self.shards.rows:
            self._flush()

    def _flush(self) -> None:
        number, n = len(self._files), len(self._digests)
        if not n:
            return
        name = self.shards.name(number)
        self._files[name] = finish_shard(self.root / name, n, self.geometry.side_px)
        columns: dict[str, Sequence[object] | np.ndarray | None] = {
            "cell_id": self._column("cell_id"),
            "class": self._column("label"),
            "specimen": self._column("specimen"),
            "shard": np.full(n, number),
            "row": np.arange(n),
            "x": self._column("x"),
            "y": self._column("y"),
            "source": self._column("source"),
            "image": self._column("image"),
            "site": self._column("site"),
            "mirrored_px": self._column("mirrored_px") or np.zeros(n, np.int16),
            "split": self._column("split"),
            "digest": self._digests,
            "near_group": None,  # known when all crops are
        }
        arrays = [
            pa.nulls(n, field.type) if columns[field.name] is None else pa.array(columns[field.name]).cast(field.type)
            for field in CELL_SCHEMA
        ]
        self._table.write_table(pa.table(arrays, schema=CELL_SCHEMA))
        self._rows, self._digests = [], []
        log.info("%s written", name)

    def _column(self, name: str) -> list[object] | None:
        """A column of the shard's rows; None if no rows state it."""
        parts = [(getattr(rows, name), len(rows.cell_id)) for rows in self._rows]
        if all(values is None for values, _ in parts):
            return None
        return list(chain.from_iterable(repeat(None, n) if values is None else values for values, n in parts))

    def close(self) -> Manifest:
        """Write the last shard and the manifest; raises ValueError on contradictions, or if a class has no cell."""
        self._flush()
        self._table.close()
        file = self.root / "cells.parquet"
        cells = pq.read_table(file, columns=["cell_id", "class", "specimen", "source", "site", "split", "digest"])
        kept = np.ones(len(cells), bool)
        contradicting = find_contradictions(cells, self.contradictions, self.intake)
        if self.contradictions == "drop":
            kept = ~contradicting
            cells = cells.filter(kept)
            self._counts = Counter(cells["class"].to_pylist())
        empty = [name for name in self.classes if not self._counts[name]]
        if empty:
            raise ValueError(
                f"no cells of {empty} were left: {self._counts.total()} cells kept, left out "
                f"{dict(self.intake.left_out)}; annotate some, or leave the class out (data.classes states all of them)"
            )
        groups = self._near_groups(cells, kept)
        if groups.null_count < len(groups) or not kept.all():
            table = pq.read_table(file).filter(kept)
            pq.write_table(table.set_column(CELL_SCHEMA.get_field_index("near_group"), "near_group", groups), file)
        self._files[file.name] = sha256_of(file)
        manifest = Manifest(
            classes=self.classes,
            geometry=self.geometry,
            cells=self._counts.total(),
            counts={name: self._counts[name] for name in self.classes},
            dropped=dict(self.intake.left_out),
            joined=dict(self.intake.joined),
            doubtful=dict(self.intake.doubtful),
            source=self.source,
            files=self._files,
            fingerprint=self._fingerprint(cells),
        )
        (self.root / "manifest.json").write_text(
            json.dumps(asdict(manifest), indent=1, ensure_ascii=False), encoding="utf-8"
        )
        return manifest

    def _near_groups(self, cells: pa.Table, kept: Bool[np.ndarray, " n"]) -> pa.Array:
        """The kept cells' column near_group; counts those that have one."""
        specimens = cells["specimen"].unify_dictionaries().combine_chunks().indices.to_numpy()
        of_cells = np.concatenate(self._signatures)
        self._signatures.clear()
        of_cells = of_cells if kept.all() else of_cells[kept]
        groups = near_groups(of_cells, specimens, cells["digest"].to_numpy().astype("S16"))
        near = groups >= 0
        if near.any():
            self.intake.doubtful[NEAR_COPIES] += int(near.sum())
        return pa.array(groups, pa.int32(), mask=~near)

    def _fingerprint(self, cells: pa.Table) -> str:
        """A hash of what determines a run: classes, geometry and each cell; a site only where one is stated."""
        content = hashlib.sha256(json.dumps([self.classes, asdict(self.geometry)]).encode())
        for batch in cells.to_batches(max_chunksize=2**16):
            rows = batch.to_pydict()
            split = ["null" if part is None else _quoted(part) for part in rows["split"]]
            site = [f", {_quoted(place)}" if place else "" for place in rows["site"]]
            columns = (rows["cell_id"], rows["class"], rows["specimen"], split, rows["digest"], site)
            lines = [
                f'[{_quoted(cell)}, {_quoted(label)}, {_quoted(specimen)}, {part}, "{digest.hex()}"{place}]'
                for cell, label, specimen, part, digest, place in zip(*columns, strict=True)
            ]
            content.update("".join(lines).encode())  # as json.dumps of a list each, in a fifth of its time
        return content.hexdigest()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self._table.close()
