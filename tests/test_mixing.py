"""Mixup, cutmix, erasing and scale jitter: known answers, on pixels that are easy to follow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest
from torch.nn.functional import interpolate

from cellpatch.config.assemble import assemble
from cellpatch.data.augment import DeviceAugment, erase
from cellpatch.inference.restore import restore
from cellpatch.optics.conditions import CLEAN
from cellpatch.optics.operator import OpticalPath, RandomOptics
from cellpatch.optics.scaling import scaled_paths
from cellpatch.sweeps.train import train
from cellpatch.training.mixing import mix_crops, own_share

FolderMaker = Callable[..., Path]
SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "adapt.batch_size=8"]
SMALL += ["trainer.max_epochs=1"]


@given(st.integers(1, 9), st.sampled_from([(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)]), st.integers(0, 2**16))
def test_pixels_and_labels_are_mixed_by_the_same_share(b: int, alphas: tuple[float, float], seed: int) -> None:
    torch.manual_seed(seed)
    labels = torch.eye(b)
    values = torch.rand(b, 3)
    x = values[:, :, None, None].expand(b, 3, 6, 10)  # each cell of one colour: the mean of a mixture is its share
    mixed, targets = mix_crops(x, labels, *alphas)
    torch.testing.assert_close(targets.sum(1), torch.ones(b))
    assert ((targets >= 0) & (targets <= 1)).all()
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), targets @ values)
    before = (torch.arange(b) - 1) % b
    others = torch.ones(b, b) - torch.eye(b) - torch.eye(b)[before]
    assert (targets * others.clamp(min=0) == 0).all(), "each cell and the one before it"


def test_cutmix_puts_one_box_whose_area_is_the_other_share() -> None:
    torch.manual_seed(0)
    x = torch.arange(64.0)[:, None, None, None].expand(64, 3, 20, 20)
    mixed, targets = mix_crops(x, torch.eye(64), 0.0, 1.0)
    cut = 0
    for i in range(64):
        other = mixed[i, 0] != i
        assert (mixed[i, 0][other] == (i - 1) % 64).all(), "whole pixels of the one before it"
        rows, columns = other.any(1).nonzero().flatten(), other.any(0).nonzero().flatten()
        if other.any():
            assert other[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "a box without holes"
            assert int(other.sum()) == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            cut += int(rows[0] == 0 or rows[-1] == 19 or columns[0] == 0 or columns[-1] == 19)
        assert float(targets[i, (i - 1) % 64]) == pytest.approx(int(other.sum()) / 400)
    assert cut > 10, "boxes that the border cuts are among them, and their share is what is left"


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    shares = own_share(torch.zeros(4000, 3, 1, 1), alpha, 0.0).flatten().numpy()
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 0.01
    torch.manual_seed(0)
    both = own_share(torch.zeros(4000, 3, 8, 8), alpha, 1.0)
    by_box = (both.amin(dim=(1, 2, 3)) < both.amax(dim=(1, 2, 3))).float().mean()
    assert float(by_box) == pytest.approx(0.5, abs=0.05), "half of the cells"


def test_erasing_fills_one_box_with_the_mean_of_its_crop() -> None:
    torch.manual_seed(0)
    x = torch.rand(500, 3, 40, 40)
    erased = erase(x, 1.0)
    area, ratios = [], []
    for before, after in zip(x, erased, strict=True):
        changed = (before != after).all(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        box = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        torch.testing.assert_close(box, before.mean(dim=(1, 2), keepdim=True).expand_as(box))
        assert torch.equal(torch.where(changed, 0, before), torch.where(changed, 0, after))
        area.append(box[0].numel() / 1600)
        ratios.append(box.shape[1] / box.shape[2])
    assert 0.01 < min(area) < 0.03
    assert 0.30 < max(area) < 0.36
    assert np.mean(area) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    assert 0.25 < min(ratios) < 0.4
    assert 2.5 < max(ratios) < 4
    assert abs(np.mean(np.log(ratios))) < 0.1
    few = (erase(x, 0.3) != x).any(dim=(1, 2, 3)).float().mean()
    assert 0.25 < float(few) < 0.36


def test_erasing_comes_after_the_other_draws() -> None:
    crops = torch.randint(0, 256, (50, 20, 20, 3), dtype=torch.uint8)
    outs = []
    for erasing in (0.0, 0.5):
        torch.manual_seed(3)
        outs.append(DeviceAugment(0.2, 0.1, 2, erasing, [1.0, 1.0])(crops, 16))
    kept = (outs[0] == outs[1]).all(dim=(1, 2, 3))
    assert 0.3 < float(kept.float().mean()) < 0.7
    torch.manual_seed(3)
    assert torch.equal(outs[1], DeviceAugment(0.2, 0.1, 2, 0.5, [1.0, 1.0])(crops, 16))


@pytest.mark.parametrize("erasing", [-0.1, 1.1])
def test_bad_erasing(erasing: float) -> None:
    with pytest.raises(ValueError, match=r"augment.erasing must be in \[0, 1\]"):
        DeviceAugment(0, 0, 0, erasing, [1.0, 1.0])


@pytest.mark.parametrize("scale", [[1.0], [1.1, 1.2], [0.9, 0.8], [0.4, 1.0], [1.0, 2.1], [1.0, 1.0, 1.0]])
def test_bad_scales(scale: list[float]) -> None:
    with pytest.raises(ValueError, match=r"augment.scale must be \[LOW, HIGH\] with 0.5 <= LOW <= 1 <= HIGH <= 2"):
        DeviceAugment(0, 0, 0, 0, scale)


def test_a_scale_of_one_is_the_path_itself() -> None:
    path = OpticalPath(40, 8, 40)
    assert scaled_paths(path, 1.0, 1.0) == [path]
    assert scaled_paths(OpticalPath(8, 0, 8), 0.9, 1.1) == [OpticalPath(8, 0, 8)], "less than a pixel"


@given(st.integers(8, 300), st.integers(0, 60), st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_scaled_paths_stay_within_the_limits_and_read_the_stored_crop(
    crop: int, margin: int, low: float, high: float
) -> None:
    path = OpticalPath(crop, margin, 40)
    paths = scaled_paths(path, low, high)
    assert path in paths
    assert 1 <= len(paths) == len(set(paths)) <= 10
    for each in paths:
        assert low - 1e-9 <= crop / each.crop_px <= high + 1e-9
        assert each.side_px - 2 * each.mirrored_px == path.side_px
        assert each.mirrored_px == 0 or each.crop_px > path.side_px, "the margin comes first"


@pytest.mark.parametrize("via", [None, 20])
def test_content_is_as_large_as_asked(via: int | None) -> None:
    """A ramp around the crop's middle: seen 1.25 times as large its slope is 0.8 of itself."""
    path = OpticalPath(40, 12, 40, via)
    ramp = (torch.arange(64) + 0.5 - 32) / 100 + 0.5
    x = ramp.expand(1, 3, 64, 64)
    for each in scaled_paths(path, 0.8, 1.25):
        seen = each.under(CLEAN)(x)[0, 0, 20]
        expected = (torch.arange(40) + 0.5 - 20) * each.crop_px / 40 / 100 + 0.5
        inside = slice(4, 36)  # resizing from 20 px flattens a ramp where the image ends
        # within a tenth of a pixel, as filters of whole pixels are: a crop that is 2 px wider would differ by 0.8 px
        torch.testing.assert_close(seen[inside], expected[inside], atol=1e-3, rtol=0)
    assert {each.crop_px for each in scaled_paths(path, 0.8, 1.25)} >= {32, 40, 50}


def test_beyond_the_margin_pixels_are_mirrored_as_by_numpy() -> None:
    crops = torch.rand(2, 3, 24, 24)
    [widest] = [each for each in scaled_paths(OpticalPath(20, 2, 20), 0.5, 1.0) if each.crop_px == 40]
    assert (widest.margin_px, widest.mirrored_px) == (0, 8)
    wide = torch.from_numpy(np.pad(crops.numpy(), ((0, 0), (0, 0), (8, 8), (8, 8)), "reflect"))
    direct = interpolate(wide, (20, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(widest.under(CLEAN)(crops), direct, atol=1e-5, rtol=0)


def test_within_the_margin_no_pixel_is_invented() -> None:
    """A crop that is wider by its margin is that window of the image, resized as torch does."""
    crops = torch.rand(2, 3, 30, 30)
    paths = {each.crop_px: each for each in scaled_paths(OpticalPath(20, 5, 20), 0.6, 1.0)}
    direct = interpolate(crops, (20, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(paths[30].under(CLEAN)(crops), direct, atol=1e-5, rtol=0)


def test_training_draws_every_size() -> None:
    torch.manual_seed(0)
    paths = scaled_paths(OpticalPath(20, 5, 20), 0.8, 1.25)
    optics = RandomOptics([each.under(CLEAN) for each in paths])
    crop = torch.rand(1, 3, 30, 30)
    seen = optics(crop.expand(200, 3, 30, 30))
    expected = torch.stack([each.under(CLEAN)(crop)[0] for each in paths])
    distance = (seen[:, None] - expected[None]).abs().amax(dim=(2, 3, 4))
    assert distance.amin(1).max() < 1e-5
    assert set(distance.argmin(1).tolist()) == set(range(len(paths)))


@pytest.mark.long
@pytest.mark.parametrize(
    "setting", ["adapt.mixup=0.4", "adapt.cutmix=1.0", "augment.erasing=0.5", "augment.scale=[0.8,1.25]"]
)
def test_each_changes_training_and_nothing_of_evaluation(
    tmp_path: Path, folder_of_squares: FolderMaker, setting: str
) -> None:
    root = folder_of_squares(20, 5)
    runs = [tmp_path / "runs" / train(config_of(tmp_path, root, *SMALL, *more)).run for more in ([], [setting])]
    assert runs[0] != runs[1]
    weights = [(run / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] != weights[1]
    plain, other = (restore(run).network for run in runs)
    assert torch.equal(plain.optics.operator, other.optics.operator)
    crops = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    other.load_state_dict(plain.state_dict())
    assert torch.equal(plain(crops), other(crops))


def test_scale_needs_gradients(tmp_path: Path) -> None:
    probe = ["model=efficientnet_lite0", "adapt=linear_probe", "augment.scale=[0.8,1]"]
    assemble(config_of(tmp_path, tmp_path, *probe))
    with pytest.raises(
        ValueError, match=r"augment.scale=\[0.8, 1.0\] needs gradients, but adapt=linear_probe has copies"
    ):
        assemble(config_of(tmp_path, tmp_path, *probe, "adapt.augmented_copies=1"))
