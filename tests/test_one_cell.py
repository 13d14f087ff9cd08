"""Batches of one cell: they train where a map has one value per channel, and each pass sees other views."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config_of, unaudited_split
from stored import read_record
from torch import nn

from cellpatch.data.augment import AlbumentationsAugment
from cellpatch.data.datamodule import Batches, CellData
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.data.store.reader import CellStore
from cellpatch.models.single_values import running_statistics_of_single_values
from cellpatch.sweeps.train import train

FolderMaker = Callable[..., Path]


def test_a_single_value_takes_the_running_statistics() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)).train()
    x = torch.randn(1, 3, 2, 2)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layers(x)
    with running_statistics_of_single_values(layers):
        found = layers(x)
        assert torch.equal(layers[1].running_mean, torch.zeros(4))
        larger = layers(torch.randn(1, 3, 5, 5))
    assert all(layer.training for layer in layers.modules())
    torch.testing.assert_close(found, layers[0](x) / (1 + 1e-5) ** 0.5)
    assert larger.mean().abs() < 1e-5, "other maps are normalised by their own statistics"


@pytest.mark.long
@pytest.mark.parametrize("model", ["cnn", "nin", "resnet", "se_resnet", "densenet", "efficientnet", "convnext"])
@pytest.mark.parametrize("size", [20, 1])
def test_a_last_batch_of_one_cell_trains(tmp_path: Path, folder_of_squares: FolderMaker, model: str, size: int) -> None:
    """21 cells; at 8 px the last maps are 1x1."""
    small = [f"model={model}", "model.backbone.input_px=8", "flag_limit=7", f"adapt.batch_size={size}"]
    outcome = train(config_of(tmp_path, folder_of_squares(35, 5), *small, "trainer.max_steps=4", "augment=none"))
    assert read_record(tmp_path / "runs" / outcome.run)["updates"] == 4


@pytest.mark.parametrize("size", [1, 3])
def test_albumentations_draws_anew_in_each_pass(store_of: Callable[..., Path], size: int) -> None:
    store = CellStore(store_of(3, specimens=3))
    parts = unaudited_split(np.arange(3), np.arange(3), np.arange(3))
    dataset = CellDataset(store, ["a", "b"], np.array([0, 1, 0]), parts)
    loading = Loading("stores", 1.0, 0, "embeddings", 1.0, "float32", None)

    def views(first_round: int, rounds: int) -> list[dict[int, int]]:
        """The checksum of each cell's view, by round."""
        data = CellData(dataset, Batches(size), 3, 7, loading, AlbumentationsAugment(0.2, 0.1, 2))
        data.first_round = first_round
        loader, found = data.train_dataloader(), []
        for number in range(first_round, first_round + rounds):
            loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
            pairs = [pair for crops, _, cells in loader for pair in zip(cells, crops, strict=True)]
            found.append({int(cell): zlib.crc32(crop.numpy().tobytes()) for cell, crop in pairs})
        return found

    passes = views(0, 8)
    for cell in range(3):
        assert len({each[cell] for each in passes}) == 8
    assert views(0, 8) == passes
    assert views(5, 3) == passes[5:], "a resumed training sees the same"
