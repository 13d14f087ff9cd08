"""Features of a frozen backbone, computed once for all cells of a store and kept on disk.

python -m cellpatch.embeddings [DIR] [--clear NAME ... | --clear-all]
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import AcquireReturnProxy, Timeout
from jaxtyping import Float, Int

from cellpatch import __version__
from cellpatch.data.augment import DeviceAugment, drawn_view
from cellpatch.data.store.reader import CellStore
from cellpatch.models.network import Network
from cellpatch.runtime.atomic_io import atomic_directory, file_lock, sha256_of
from cellpatch.runtime.device import inference_mode
from cellpatch.runtime.progress import batch_starts

log = logging.getLogger(__name__)
_GIB = 2**30
_FILES = {"features.npy", "key.json"}
_VIEW_CELLS = 64  # drawn at a time, whatever the batch: every machine draws the same
Dtype = Literal["float32", "float16"]
View = tuple[DeviceAugment, int]  # an augmentation, and a number that seeds its draws


@dataclass(frozen=True)
class Cache:
    """A folder of features: at most `limit_gib`, computed `batch` cells at a time on `device`, kept as `dtype`."""

    folder: Path
    limit_gib: float
    batch: int
    device: torch.device
    dtype: Dtype = "float32"

    def features(
        self,
        network: Callable[[], Network],
        store: CellStore,
        name: str,
        content: dict[str, Any],
        cells: Int[np.ndarray, " n"],
        view: View | None = None,
    ) -> Float[np.ndarray, "n d"]:
        """Features of the given cells of the store, memory-mapped; computed in one pass unless they are there.

        `content` holds what determines them beside the crops, the dtype, the view and the versions of cellpatch and
        timm: the fingerprint of the weights, the backbone's arguments, the optics. `name` is for people. `network`
        is called only if they have to be computed. Of many processes that ask, one computes and the others wait.
        Raises ValueError if the folder cannot be written, or would grow beyond its limit.
        """
        key = content | {"crops": _crops_fingerprint(store, cells), "dtype": self.dtype, "cellpatch": __version__}
        key |= {"timm": metadata.version("timm")}
        if view is not None:
            augment, number = view
            settings = [augment.stain_gain, augment.stain_offset, augment.shift_px]
            key["view"] = {"number": number, "augment": settings}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        there = self._find(digest)
        if there is not None and _is_whole(there):  # no lock: the folder may be others', and not to be written
            with suppress(FileNotFoundError):  # it is being cleared
                return _open(there)
        with self._lock(digest):
            there = self._find(digest)
            safe = re.sub(r"[^-\w.]+", "_", name).lstrip(".")
            target = there or self.folder / f"{safe}-{digest}"
            if not _is_whole(target):
                if there:
                    _delete(target)
                with atomic_directory(target) as temporary:
                    self._compute(network().to(self.device), store, cells, temporary, view)
                    facts = {"content": key, "sha256": sha256_of(temporary / "features.npy")}
                    (temporary / "key.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
            return _open(target)

    def _find(self, digest: str) -> Path | None:
        return min(self.folder.glob(f"[!.]*-{digest}"), default=None)

    def _lock(self, digest: str) -> AcquireReturnProxy:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return file_lock(self.folder / f".{digest}.lock").acquire()
        except OSError as error:
            told = f"data.loading.embeddings_dir={self.folder} cannot be written: {error.strerror}"
            raise ValueError(told) from error

    def _compute(
        self,
        network: Network,
        store: CellStore,
        cells: Int[np.ndarray, " n"],
        folder: Path,
        view: View | None,
    ) -> None:
        network.eval()
        # Written as a stream: a memory map of a file that a full disk cuts short ends in SIGBUS.
        with (folder / "features.npy").open("wb") as stream:
            n = self.batch if view is None else _VIEW_CELLS
            for start in batch_starts(len(cells), n, "embedding"):
                crops = torch.from_numpy(store.crops(cells[start : start + n]))
                with inference_mode():
                    if view is None:
                        found = network.features(crops.to(self.device))
                    else:
                        pixels = drawn_view(*view, crops, network.optics.needed_px, start).split(self.batch)
                        parts = [network.backbone(network.optics(part.to(self.device))) for part in pixels]
                        found = torch.cat(parts)
                with np.errstate(over="ignore"):  # told below
                    rows = found.float().cpu().numpy().astype(self.dtype)
                self._check_finite(rows)
                if start == 0:
                    shape = (len(cells), rows.shape[1])
                    header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
                    with file_lock(self.folder / ".room.lock"):
                        size = shape[0] * shape[1] * rows.itemsize
                        self._check_room(size)
                        np.lib.format.write_array_header_1_0(stream, header)
                        stream.truncate(stream.tell() + size)  # others that compute meanwhile see what it will take
                stream.write(np.ascontiguousarray(rows).data)

    def _check_finite(self, rows: Float[np.ndarray, "n d"]) -> None:
        if not np.isfinite(rows).all():
            raise ValueError(
                f"features are not finite as {self.dtype}: set data.loading.embedding_dtype=float32, or if that is "
                "what was used, the weights are broken"
            )

    def _check_room(self, size: int) -> None:
        held = sum(_bytes(file) for file in self.folder.glob("*/features.npy"))
        limit = self.limit_gib * _GIB
        if held + size > limit:
            clearing = f", or clear some: python -m cellpatch.embeddings {self.folder}" if size <= limit else ""
            raise ValueError(
                f"{self.folder} holds {held / _GIB:.3g} GiB of features and these are {size / _GIB:.3g}: more than "
                f"data.loading.embeddings_gib={self.limit_gib:g}; raise it{clearing}"
            )
        log.info("embedding: %.2f GiB of features in %s", size / _GIB, self.folder)


def _crops_fingerprint(store: CellStore, cells: Int[np.ndarray, " n"]) -> str:
    """Of the crops in their order and their geometry alone: a corrected label changes no feature."""
    digest = hashlib.sha256(json.dumps(asdict(store.geometry)).encode())
    digest.update(b"".join(store.cells["digest"].to_numpy()[cells]))
    return digest.hexdigest()[:16]


@lru_cache(maxsize=32)
def _open(folder: Path) -> Float[np.ndarray, "n d"]:
    """The memory map of one entry; raises ValueError if it was altered. Checked once in a process."""
    try:
        sha256 = json.loads((folder / "key.json").read_text(encoding="utf-8"))["sha256"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{folder}: key.json cannot be read ({error}): delete the folder") from error
    if sha256_of(folder / "features.npy") != sha256:
        raise ValueError(f"{folder}: the checksum of features.npy differs from key.json: delete the folder")
    return np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)


def _is_entry(folder: Path) -> bool:
    """Whether it is an entry, or what is left of one; a folder with anything else in it is no business of ours."""
    named = re.search(r"-[0-9a-f]{12}(\.\d+\.tmp)?$", folder.name)
    try:
        return named is not None and {file.name for file in folder.iterdir()} <= _FILES
    except FileNotFoundError:  # deleted meanwhile
        return False


def _is_whole(entry: Path) -> bool:
    return all((entry / file).exists() for file in _FILES)


def _size(folder: Path) -> int:
    return sum(_bytes(folder / file) for file in _FILES)


def _bytes(file: Path) -> int:
    """0 of a file that is not there, or was deleted or renamed a moment ago."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def clear(entry: Path) -> bool:
    """Delete an entry, or what a killed process left of one; false if its lock is held."""
    digest = re.sub(r"\.\d+\.tmp$", "", entry.name).rpartition("-")[2]
    try:
        with file_lock(entry.with_name(f".{digest}.lock")).acquire(timeout=0):
            _delete(entry)
    except Timeout:
        return False
    return True


def _delete(entry: Path) -> None:
    """Under its lock; one who is killed in between leaves what counts as unfinished. It may be gone already."""
    with suppress(FileNotFoundError):
        if entry.is_symlink():  # what it points to is not ours
            entry.unlink()
            return
        if not entry.name.startswith("."):
            entry = entry.rename(entry.with_name(f".{entry.name}.{os.getpid()}.tmp"))
        shutil.rmtree(entry)
