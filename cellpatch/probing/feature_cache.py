"""Features of a frozen backbone, computed once for all cells of a store and stored on disk."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from filelock import AcquireReturnProxy
from jaxtyping import Float, Int

from cellpatch.data.augment import augmented_copy
from cellpatch.data.store.reader import CellStore
from cellpatch.models.network import Network
from cellpatch.models.packed import can_pack, pack_linear_layers
from cellpatch.probing import feature_entries
from cellpatch.probing.feature_key import FeatureRequest, View, digest_of
from cellpatch.runtime.atomic_io import atomic_directory, file_lock
from cellpatch.runtime.device import inference_mode, torch_threads
from cellpatch.runtime.numbers import rounded
from cellpatch.runtime.parallel import shared_map
from cellpatch.runtime.progress import batch_starts

log = logging.getLogger(__name__)
GIB = 2**30
_VIEW_CELLS = 64  # drawn at a time, whatever the batch: every machine draws the same
_WORTH_PROCESSES = 32  # batches; fewer are done before processes have started
Dtype = Literal["float32", "float16"]


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features of at most `limit_gib`, stored as `dtype`.

    They are computed in batches of `batch_size` cells on `device`. On a CPU `processes` share the batches of a long
    pass, which gives the same features.
    """

    folder: Path
    limit_gib: float
    batch_size: int
    device: torch.device
    dtype: Dtype = "float32"
    processes: int = 1

    def features(self, request: FeatureRequest, network: Callable[[], Network]) -> Float[np.ndarray, "n d"]:
        """The requested features [cells, features], memory-mapped; computed in one pass if they are not stored.

        `network` is called only to compute them, and pickled for other processes. If several processes request the same
        features, one computes them and the others wait. Raises ValueError if the folder is not writable, or would
        exceed its limit.
        """
        key = request.key(self.dtype)
        digest = digest_of(key)
        entry = feature_entries.find_entry(self.folder, digest)
        if entry is not None and feature_entries.is_complete(entry):  # no lock: the folder may be read-only
            with suppress(FileNotFoundError):  # another process clears it
                return feature_entries.open_entry(entry)
        with self._lock(digest):
            entry = feature_entries.find_entry(self.folder, digest)
            target = entry or self.folder / request.folder_name(digest)
            if not feature_entries.is_complete(target):
                if entry:
                    feature_entries.delete_entry(target)
                with atomic_directory(target) as temporary:
                    self._compute(network, request, temporary)
                    feature_entries.write_key(temporary, key)
            return feature_entries.open_entry(target)

    def _lock(self, digest: str) -> AcquireReturnProxy:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return file_lock(self.folder / f".{digest}.lock").acquire()
        except OSError as error:
            message = f"data.loading.embeddings_dir={self.folder} cannot be written: {error.strerror}"
            raise ValueError(message) from error

    def _compute(self, network: Callable[[], Network], request: FeatureRequest, folder: Path) -> None:
        """Write features.npy as a stream: a memory map of a file on a full disk ends in SIGBUS."""
        batch_size = self.batch_size if request.view is None else _VIEW_CELLS
        shared = self.processes > 1 and len(request.cells) >= _WORTH_PROCESSES * batch_size
        processes = self.processes if shared else 1
        threads = max(1, torch.get_num_threads() // processes)
        work = _Embedding(request.store, request.view, network, self.device, self.batch_size, threads)
        starts = batch_starts(len(request.cells), batch_size, "embedding")
        batches = ((start, request.cells[start : start + batch_size]) for start in starts)
        with (folder / feature_entries.FEATURES).open("wb") as stream, torch_threads(threads):
            for number, features in enumerate(shared_map(work, batches, processes)):
                with np.errstate(over="ignore"):  # _check_finite reports it
                    rows = features.astype(self.dtype)
                self._check_finite(rows)
                if number == 0:
                    self._reserve(stream, (len(request.cells), rows.shape[1]), rows.dtype)
                stream.write(np.ascontiguousarray(rows).data)

    def _check_finite(self, rows: Float[np.ndarray, "n d"]) -> None:
        if not np.isfinite(rows).all():
            raise ValueError(
                f"features are not finite as {self.dtype}: set data.loading.embedding_dtype=float32; if they are "
                "float32 already, the weights are broken"
            )

    def _reserve(self, stream: IO[bytes], shape: tuple[int, int], dtype: np.dtype[np.floating]) -> None:
        """Write the header and extend the file to its final size, so that other processes count it."""
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with file_lock(self.folder / ".room.lock"):
            size = shape[0] * shape[1] * dtype.itemsize
            self._check_room(size)
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + size)

    def _check_room(self, size: int) -> None:
        stored = feature_entries.bytes_of_features(self.folder)
        limit = self.limit_gib * GIB
        if stored + size > limit:
            clearing = f", or clear some: cellpatch embeddings {self.folder}" if size <= limit else ""
            raise ValueError(
                f"{self.folder} holds {rounded(stored / GIB)} GiB of features and these are {rounded(size / GIB)}: "
                f"more than data.loading.embeddings_gib={self.limit_gib:g}; raise it{clearing}"
            )
        log.info("embedding: %.2f GiB of features in %s", size / GIB, self.folder)


@dataclass(frozen=True, eq=False)
class _Embedding:
    """Features of a batch of cells; each process that shares a pass gets a copy, which is small.

    Each takes `threads` threads. At most `at_once` cells go through the network together.
    """

    store: CellStore
    view: View | None
    network: Callable[[], Network]
    device: torch.device
    at_once: int
    threads: int

    @cached_property
    def _network(self) -> Network:
        torch.set_num_threads(self.threads)
        network = self.network().to(self.device).eval()
        if self.device.type == "cpu" and can_pack():
            pack_linear_layers(network.backbone)
        return network

    def __call__(self, batch: tuple[int, Int[np.ndarray, " b"]]) -> Float[np.ndarray, "b features"]:
        """`batch` is the index of its first cell among the requested ones, and its cells of the store."""
        network, (start, cells) = self._network, batch
        crops = torch.from_numpy(self.store.crops(cells))
        with inference_mode():
            if self.view is None:
                features = network.features(network.pixels(crops.to(self.device)))
            else:
                pixels = augmented_copy(*self.view, crops, network.optics.needed_px, start)
                parts = [network.features(part.to(self.device)) for part in pixels.split(self.at_once)]
                features = torch.cat(parts)
            return features.float().cpu().numpy()
