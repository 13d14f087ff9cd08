"""Batches of uint8 crops from an open store."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cellpatch.data.augment import AlbumentationsAugment
from cellpatch.data.batch_indices import IGNORE_INDEX, BalancedIndices, BatchIndices, NumberedBatches
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.data.store.reader import CellStore

Batch = tuple[Tensor, Tensor, Tensor]  # crops uint8 [b, side, side, 3], class index [b], position in the part [b]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batches:
    """Cells in a batch, and batches in a round; None is one pass through the part.

    `balanced` batches draw each class equally often.
    """

    size: int
    per_round: int | None = None
    balanced: bool = False


class SplitPart(Dataset[Batch]):
    """One part of a split; indexing by an array of positions gives a batch.

    A position -1 - p gives the cell p with the label IGNORE_INDEX. With `resident_device` the part's crops are one
    tensor on that device; with None each batch is copied out of the memory map.
    """

    def __init__(
        self,
        store: CellStore,
        indices: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n"],
        resident_device: torch.device | None = None,
    ) -> None:
        self.store = store
        self.indices = indices
        self.device = resident_device or _CPU
        self.labels = torch.from_numpy(labels).to(self.device)
        self.resident = None if resident_device is None else torch.from_numpy(store.crops(indices)).to(resident_device)

    def __getitem__(self, positions: Int[np.ndarray, " b"]) -> Batch:
        counts = positions >= 0
        positions = np.where(counts, positions, -1 - positions)
        on_device = torch.from_numpy(positions).to(self.device, non_blocking=True)
        if self.resident is not None:
            crops = self.resident[on_device]
        else:
            crops = torch.from_numpy(self.store.crops(self.indices[positions]))
        labels = self.labels[on_device]
        return crops, labels if counts.all() else torch.full_like(labels, IGNORE_INDEX), on_device


class AugmentedPart(Dataset[Batch]):
    """A part whose batches are augmented on the CPU; indexing by a batch's number and its positions gives a batch.

    The draws depend on `seed`, the number and the positions: a cell is seen differently in each pass, and equally by
    any worker and after a resume.
    """

    def __init__(self, part: SplitPart, augment: AlbumentationsAugment, seed: int) -> None:
        self._part = part
        self._augment = augment
        self._seed = seed

    def __getitem__(self, batch: tuple[int, Int[np.ndarray, " b"]]) -> Batch:
        number, positions = batch
        crops, labels, cells = self._part[positions]
        drawn_by = zlib.crc32(np.array([number, *positions], np.int64).tobytes(), self._seed)
        return torch.from_numpy(self._augment(crops.numpy(), drawn_by)), labels, cells


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
        self.first_round = 0  # of a resumed training: workers take batches before Lightning sets the sampler's round
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
            self._parts[name] = SplitPart(self.dataset.store, indices, labels, resident)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        share = (rank, world_size, batches.per_round)
        sampler = BatchIndices(len(indices), batches.size, seed, *share)
        if batches.balanced:
            sampler = BalancedIndices(self.dataset.labels[indices], batches.size, self.seed, *share)
        sampler.set_epoch(self.first_round if name == "train" else 0)
        part: Dataset[Batch] = self._parts[name]
        if augment is None:
            return DataLoader(part, batch_size=None, sampler=sampler, collate_fn=identity_collate)
        part = AugmentedPart(self._parts[name], augment, self.seed)
        numbered = NumberedBatches(sampler)
        workers = self.loading.workers
        return DataLoader(part, batch_size=None, sampler=numbered, num_workers=workers, collate_fn=identity_collate)

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
