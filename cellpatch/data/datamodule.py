"""Batches of uint8 crops from an open store."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cellpatch.data.augment import AlbumentationsAugment
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.data.store.reader import CellStore

IGNORE_INDEX = -100  # label of the filler cell that a process gets where a last, small batch leaves none for it
Batch = tuple[Tensor, Tensor, Tensor]  # crops uint8 [b, side, side, 3], class index [b], position in the part [b]

_CPU = torch.device("cpu")


class BatchIndices(Sampler[Int[np.ndarray, " b"]]):
    """Arrays of positions in a part, `batch_size` at a time: one round of an endless stream of passes through the part.

    Each pass is shuffled anew, the same for the same seed; `seed` None keeps the order. A batch never mixes two passes:
    the last one of a pass may be smaller. A round has `round_batches` batches, None is one pass; it may begin and end
    within a pass. Every process of a distributed run draws the same order and takes its own share of each batch. Where
    that is empty, it takes the batch's first position p as -1 - p: a cell that does not count.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
        round_batches: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, but got {batch_size}")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.share = slice(rank, None, world_size)
        self.pass_batches = -(-n // batch_size)
        self.round_batches = self.pass_batches if round_batches is None else round_batches
        self.round = 0

    def set_epoch(self, epoch: int) -> None:  # Lightning calls it before each round, its epoch
        self.round = epoch

    def __len__(self) -> int:
        return self.round_batches

    def __iter__(self) -> Iterator[Int[np.ndarray, " b"]]:
        first = self.round * self.round_batches
        drawn, order = -1, np.arange(self.n)
        for number in range(first, first + self.round_batches):
            passes, index = divmod(number, self.pass_batches)
            if self.seed is not None and passes != drawn:
                drawn, order = passes, np.random.default_rng([self.seed, passes]).permutation(self.n)
            batch = order[index * self.batch_size : (index + 1) * self.batch_size]
            share = batch[self.share]
            yield share if len(share) else -1 - batch[:1]


@dataclass(frozen=True)
class Batches:
    """Cells in a batch, and batches in a round; None is one pass through the part."""

    size: int
    per_round: int | None = None


class SplitPart(Dataset[Batch]):
    """One part of a split; indexing by an array of positions gives a batch.

    A position -1 - p gives the cell p with the label IGNORE_INDEX. With `resident_device` the part's crops are one
    tensor on that device; with None each batch is copied out of the memory map. The draws of `augment`, which runs on
    the CPU, depend on `seed` and the batch's positions.
    """

    def __init__(
        self,
        store: CellStore,
        indices: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n"],
        resident_device: torch.device | None = None,
        augment: AlbumentationsAugment | None = None,
        seed: int = 0,
    ) -> None:
        self.store = store
        self.seed = seed
        self.indices = indices
        self.device = resident_device or _CPU
        self.labels = torch.from_numpy(labels).to(self.device)
        self.augment = augment
        self.resident = None if resident_device is None else torch.from_numpy(store.crops(indices)).to(resident_device)

    def __getitem__(self, positions: Int[np.ndarray, " b"]) -> Batch:
        counts = positions >= 0
        positions = np.where(counts, positions, -1 - positions)
        on_device = torch.from_numpy(positions).to(self.device)
        if self.resident is not None:
            crops = self.resident[on_device]
        else:
            crops = torch.from_numpy(self.store.crops(self.indices[positions]))
        if self.augment is not None:
            crops = torch.from_numpy(self.augment(crops.numpy(), zlib.crc32(positions.tobytes(), self.seed)))
        labels = self.labels[on_device]
        return crops, labels if counts.all() else torch.full_like(labels, IGNORE_INDEX), on_device


class CellData(pl.LightningDataModule):
    """Batches of a dataset's train, validation and test cells.

    Crops are kept in memory, or on the trainer's device, if all parts together take at most `loading.resident_gib` (and
    half of the device's free memory). `loading.workers` processes load batches where `augment` runs on the CPU.
    Validation and test take `inference_batch` cells at a time.
    """

    def __init__(
        self,
        dataset: CellDataset,
        batches: Batches,
        inference_batch: int,
        seed: int,
        loading: Loading,
        augment: AlbumentationsAugment | None = None,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.batches = batches
        self.inference_batch = inference_batch
        self.seed = seed
        self.loading = loading
        self.augment = augment
        self.first_round = (
            0  # of a training that is resumed; workers ask for batches before Lightning tells the sampler
        )
        self._parts: dict[str, SplitPart] = {}  # each part's crops are read once, for all epochs

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train", self.dataset.split.train, self.batches, self.seed, self.augment)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("validation", self.dataset.split.validation, Batches(self.inference_batch), None)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test", self.dataset.split.test, Batches(self.inference_batch), None)

    def _loader(
        self,
        name: str,
        indices: Int[np.ndarray, " n"],
        batches: Batches,
        seed: int | None,
        augment: AlbumentationsAugment | None = None,
    ) -> DataLoader[Batch]:
        device = self.trainer.strategy.root_device if self.trainer and augment is None else _CPU
        if name not in self._parts:
            labels = self.dataset.labels[indices]
            resident = self._resident_device(device)
            self._parts[name] = SplitPart(self.dataset.store, indices, labels, resident, augment, self.seed)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = BatchIndices(len(indices), batches.size, seed, rank, world_size, batches.per_round)
        sampler.set_epoch(self.first_round if name == "train" else 0)
        workers = self.loading.workers if augment is not None else 0
        return DataLoader(
            self._parts[name], batch_size=None, sampler=sampler, num_workers=workers, collate_fn=identity_collate
        )

    def _resident_device(self, device: torch.device) -> torch.device | None:
        """The device that all crops are kept on; None if they stay on disk.

        A GPU keeps them if they take less than half of its free memory, else the CPU does.
        """
        split = self.dataset.split
        cells = sum(len(part) for part in (split.train, split.validation, split.test))
        needed = cells * self.dataset.store.geometry.side_px**2 * 3
        if needed > self.loading.resident_gib * 2**30:
            return None
        return device if device.type == "cpu" or needed < _free(device) / 2 else _CPU


def _free(device: torch.device) -> int:
    """Free bytes of a GPU for this process, with the unused part of what torch has reserved."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def identity_collate(batch: Any) -> Any:
    """Return the batch unchanged; torch's default turns tuples into lists."""
    return batch


def class_weights(labels: Int[np.ndarray, " n"], n_classes: int) -> Sequence[float]:
    """Weights n / (classes * n_class), whose mean over the cells is 1 (scikit-learn's "balanced")."""
    counts = np.bincount(labels, minlength=n_classes)
    return (len(labels) / (n_classes * counts)).tolist()
