"""Source `npz`: arrays in the layout of MedMNIST, with their own train, validation and test parts."""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from cellpatch.data.sources.source import Source, files_fingerprint
from cellpatch.data.store.intake import Contradictions
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.runtime.json_types import Json

_PARTS = {"train": "train", "val": "validation", "test": "test"}
_CHUNK, _CHUNK_BYTES = 4096, 2**26  # rows read together
_MOST_CLASSES, _MOST_CELLS = 1000, 10**8
_READ_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
)  # of damaged archives and headers: other compressions, encryption, text that is no header


class Npz(Source):
    """`{train,val,test}_images` uint8 [n, s, s], [n, s, s, 1] or [n, s, s, 3] and `_labels` int [n] or [n, 1].

    MedMNIST names no specimens: each image counts as one, and the file's own parts are the split. `classes` names the
    label values from the lowest on (0 or 1); None uses the numbers. Nothing is unpickled. Raises ValueError on arrays
    of another layout.
    """

    def __init__(
        self,
        file: str,
        classes: list[str] | None,
        um_per_px: float | None,
        contradictions: Contradictions,
        licence: str,
        synthetic: bool,
    ) -> None:
        if um_per_px is not None and not 0 < um_per_px < math.inf:
            raise ValueError(f"data.um_per_px must be null or > 0, but got {um_per_px}")
        self.file = Path(file)
        if not self.file.is_file():
            raise ValueError(f"data.file: no such file {file}")
        self.classes = classes
        self.um_per_px = um_per_px
        self.contradictions = contradictions
        self.licence = licence
        self.synthetic = synthetic

    def describe(self) -> Json:
        return self._parameters() | {"files": files_fingerprint(self.file.parent, [self.file])}

    def _parameters(self) -> Json:
        fixed: Json = {
            "kind": "npz",
            "synthetic": self.synthetic,
            "specimens": "unknown: each image counts as its own",
        }
        return fixed | {name: getattr(self, name) for name in ("classes", "um_per_px", "contradictions", "licence")}

    def fill(self, folder: Path) -> None:
        try:
            with zipfile.ZipFile(self.file) as archive:
                self._fill(folder, archive)
        except _READ_ERRORS as error:
            raise ValueError(f"{self.file}: is not a readable .npz ({error})") from error

    def _fill(self, folder: Path, archive: zipfile.ZipFile) -> None:
        labels = {part: self._labels(archive, part) for part in _PARTS}
        lowest = min(1, *(int(values.min()) for values in labels.values()))
        highest = max(int(values.max()) for values in labels.values())
        names = self.classes or [str(value) for value in range(lowest, highest + 1)]
        if highest - lowest >= len(names):
            raise ValueError(
                f"{self.file}: label {highest} has no name; data.classes names {len(names)}, from label {lowest} on"
            )
        for part, values in labels.items():
            count = _header(archive, self.file, f"{part}_images")[0][0]
            if count != len(values):
                raise ValueError(f"{self.file}: {part}_images has {count} rows, {part}_labels {len(values)}")
        shape = _header(archive, self.file, "train_images")[0]
        if len(shape) not in (3, 4) or shape[1] != shape[2] or shape[3:] not in ((), (1,), (3,)):
            raise ValueError(
                f"{self.file}: train_images must be [n, s, s], [n, s, s, 1] or [n, s, s, 3], but got {shape}"
            )
        geometry = Geometry(shape[1], 0, self.um_per_px)
        writer = StoreWriter(folder, names, geometry, self._parameters(), contradictions=self.contradictions)
        with writer:
            for part, split in _PARTS.items():
                start = 0
                for images in _stream(archive, self.file, f"{part}_images"):
                    crops = images[..., None] if images.ndim == 3 else images
                    crops = np.repeat(crops, 3, axis=3) if crops.shape[3] == 1 else crops
                    ids = [f"{part}-{start + i}" for i in range(len(crops))]
                    classes = [names[value - lowest] for value in labels[part][start : start + len(crops)]]
                    writer.add(
                        crops,
                        CellRows(
                            cell_id=ids,
                            label=classes,
                            specimen=ids,
                            source=[f"{self.file.name}:{cell}" for cell in ids],
                            split=[split] * len(ids),
                        ),
                    )
                    start += len(crops)

    def _labels(self, archive: zipfile.ZipFile, part: str) -> Int[np.ndarray, " n"]:
        shape, dtype = _header(archive, self.file, f"{part}_labels")
        wrong = (
            f"{self.file}: {part}_labels must be non-negative integers [n] or [n, 1] (one class a cell), "
            f"but got {dtype} {shape}"
        )
        if shape[1:] not in ((), (1,)) or not 0 < shape[0] <= _MOST_CELLS or dtype.kind not in "iu":
            raise ValueError(wrong)
        values = np.concatenate(list(_stream(archive, self.file, f"{part}_labels")))
        if values.min() < 0:
            raise ValueError(f"{wrong} with {values.min()}")
        if values.max() >= _MOST_CLASSES:
            raise ValueError(f"{self.file}: {part}_labels must be below {_MOST_CLASSES}, but got {values.max()}")
        return values.ravel().astype(np.int64)


def _open(archive: zipfile.ZipFile, file: Path, name: str) -> Any:  # a zipfile.ZipExtFile; typeshed has IO[bytes]
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"{file}: does not contain {name}; it has {archive.namelist()}")
    return archive.open(f"{name}.npy")


def _read_header(stream: Any, file: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a member; raises ValueError unless it holds plain values in C order, and rows of them."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise ValueError(f"{file}: {name} is not an array of NumPy's ({error})") from error
    if dtype.hasobject or fortran:
        raise ValueError(f"{file}: {name} must be a plain C-ordered array, but got {dtype}")
    if name.endswith("images") and dtype != np.uint8:
        raise ValueError(f"{file}: {name} must be uint8, but got {dtype}")
    if not shape:
        raise ValueError(f"{file}: {name} must have a row for each cell, but is a single value")
    return shape, dtype


def _header(archive: zipfile.ZipFile, file: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with _open(archive, file, name) as stream:
        return _read_header(stream, file, name)


def _stream(
    archive: zipfile.ZipFile, file: Path, name: str
) -> Iterator[Shaped[np.ndarray, "n ..."] | UInt8[np.ndarray, "n ..."]]:
    """Rows of one member in chunks; the archive is never unpacked whole."""
    with _open(archive, file, name) as stream:
        shape, dtype = _read_header(stream, file, name)
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        rows = max(1, min(_CHUNK, _CHUNK_BYTES // max(1, row_bytes)))
        for start in range(0, shape[0], rows):
            n = min(rows, shape[0] - start)
            data = stream.read(n * row_bytes)
            if len(data) != n * row_bytes:
                raise ValueError(f"{file}: {name} ends after row {start}")
            yield np.frombuffer(data, dtype).reshape(n, *shape[1:])
