"""From an open store to whole uint8 batches by index."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cellpatch.data.augment import AlbumentationsAugment
from cellpatch.data.loading import Loading
from cellpatch.data.splits import Split
from cellpatch.data.store.reader import CellStore

IGNORE_INDEX = -100  # label of what fills the share of a process that a last, small batch leaves without a cell
Batch = tuple[Tensor, Tensor, Tensor]  # crops uint8 [b, side, side, 3], class index [b], place in the part [b]


class BatchIndices(Sampler[Int[np.ndarray, " b"]]):
    """Arrays of places in a part, `batch_size` at a time; shuffled anew each epoch, the same for the same seed.

    Every process of a distributed run draws the same order and takes its own share of each batch. Where that is
    empty, it takes the batch's first place p as -1 - p: a cell that does not count.
    """

    def __init__(self, n: int, batch_size: int, seed: int | None, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, but got {batch_size}")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.share = slice(rank, None, world_size)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:  # Lightning calls it before each epoch
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[Int[np.ndarray, " b"]]:
        order = np.arange(self.n)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        for start in range(0, self.n, self.batch_size):
            batch = order[start : start + self.batch_size]
            mine = batch[self.share]
            yield mine if len(mine) else -1 - batch[:1]


_CPU = torch.device("cpu")


class SplitPart(Dataset[Batch]):
    """One part of a split; indexing by an array gives a batch.

    A place -1 - p gives the cell p as NO_CELL. With `resident` the part's crops are held in one tensor on `device`,
    else each batch is copied out of the memory map.
    """

    def __init__(
        self,
        store: CellStore,
        indices: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n"],
        resident: bool,
        device: torch.device = _CPU,
        augment: AlbumentationsAugment | None = None,
        seed: int = 0,
    ) -> None:
        self.store = store
        self.seed = seed
        self.indices = indices
        self.device = device
        self.labels = torch.from_numpy(labels).to(device)
        self.augment = augment
        self.resident = torch.from_numpy(store.crops(indices)).to(device) if resident else None

    def __getitem__(self, places: Int[np.ndarray, " b"]) -> Batch:
        counts = places >= 0
        places = np.where(counts, places, -1 - places)
        place = torch.from_numpy(places).to(self.device)
        if self.resident is not None:
            crops = self.resident[place]
        else:
            crops = torch.from_numpy(self.store.crops(self.indices[places]))
        if self.augment is not None:
            crops = torch.from_numpy(self.augment(crops.numpy(), zlib.crc32(places.tobytes(), self.seed)))
        labels = self.labels[place]
        return crops, labels if counts.all() else torch.full_like(labels, IGNORE_INDEX), place


class CellData(pl.LightningDataModule):
    """Batches of a split of an open store.

    A part is held in memory, or on the device, if all parts together take at most
    `loading.resident_gib` (and half of the device's free memory); `loading.workers` processes load batches
    where augmentation runs on the CPU. Validation and test take `inference_batch` cells at a time.
    """

    def __init__(
        self,
        store: CellStore,
        split: Split,
        labels: Int[np.ndarray, " n"],
        batch_size: int,
        inference_batch: int,
        seed: int,
        loading: Loading,
        augment: AlbumentationsAugment | None = None,
    ) -> None:
        super().__init__()
        self.store = store
        self.split = split
        self.labels = labels
        self.batch_size = batch_size
        self.inference_batch = inference_batch
        self.seed = seed
        self.loading = loading
        self.augment = augment
        self._parts: dict[str, SplitPart] = {}

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train", self.split.train, self.batch_size, self.seed, self.augment)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("validation", self.split.validation, self.inference_batch, None)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test", self.split.test, self.inference_batch, None)

    def _loader(
        self,
        name: str,
        indices: Int[np.ndarray, " n"],
        batch_size: int,
        seed: int | None,
        augment: AlbumentationsAugment | None = None,
    ) -> DataLoader[Batch]:
        device = self.trainer.strategy.root_device if self.trainer and augment is None else _CPU
        if name not in self._parts:
            resident, on = self._place(device)
            self._parts[name] = SplitPart(self.store, indices, self.labels[indices], resident, on, augment, self.seed)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = BatchIndices(len(indices), batch_size, seed, rank, world_size)
        workers = self.loading.workers if augment is not None else 0
        return DataLoader(
            self._parts[name], batch_size=None, sampler=batches, num_workers=workers, collate_fn=identity_collate
        )

    def _place(self, device: torch.device) -> tuple[bool, torch.device]:
        """Whether all cells lie in memory, and whose: the GPU's if they take less than half of what is free there."""
        cells = sum(len(part) for part in (self.split.train, self.split.validation, self.split.test))
        needed = cells * self.store.geometry.side_px**2 * 3
        if needed > self.loading.resident_gib * 2**30:
            return False, _CPU
        return True, device if device.type == "cpu" or needed < _free(device) / 2 else _CPU


def _free(device: torch.device) -> int:
    """Bytes that a GPU still has for this process: what torch holds in reserve counts."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def identity_collate(batch: Any) -> Any:
    """Instead of torch's default, which turns tuples into lists."""
    return batch


def class_weights(labels: Int[np.ndarray, " n"], n_classes: int) -> Sequence[float]:
    """Weights n / (classes * n_class), whose mean over the cells is 1 (scikit-learn's "balanced")."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (n_classes * counts)).tolist()
