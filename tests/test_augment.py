from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpatch.data.augment import AlbumentationsAugment, DeviceAugment, jitter_stain, turn_and_shift


def _turns(x: torch.Tensor) -> list[torch.Tensor]:
    """The eight flips and right-angle rotations of [3, h, w]."""
    return [torch.rot90(y, k, (1, 2)) for k in range(4) for y in (x, x.flip(2))]


def test_stain_jitter_is_linear_in_optical_density() -> None:
    crops = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, 16, 16, 3)
    gain, offset = torch.tensor([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.25], [0.1, 0.0, -0.1]])
    out = jitter_stain(crops, gain, offset)
    density = -torch.log10(crops.permute(0, 3, 1, 2) / 255)  # infinite for black
    expected = 10 ** -(gain[..., None, None] * density + offset[..., None, None])
    torch.testing.assert_close(out, expected.clamp(max=1))


def test_white_stays_white_and_black_stays_finite() -> None:
    crops = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3)
    out = jitter_stain(crops, torch.full((1, 3), 1.2), torch.zeros(1, 3))
    assert torch.isfinite(out).all()
    assert (out[..., 1] == 1).all()


def test_a_batch_has_the_eight_turns_about_equally_and_nothing_else() -> None:
    torch.manual_seed(0)
    crop = torch.randint(0, 256, (9, 9, 3), dtype=torch.uint8)
    out = DeviceAugment(stain_gain=0, stain_offset=0, shift_px=0, erasing=0, scale=[1, 1])(
        crop.expand(1600, 9, 9, 3), 9
    )
    expected = torch.stack(_turns(crop.permute(2, 0, 1) / 255))
    distance = (out[:, None] - expected[None]).abs().amax(dim=(2, 3, 4))
    assert distance.amin(dim=1).max() < 1e-6
    assert distance.argmin(dim=1).bincount(minlength=8).min() > 150


@settings(max_examples=40)
@given(st.integers(4, 30), st.integers(0, 12), st.integers(0, 9), st.integers(0, 2**16))
def test_crops_move_by_whole_pixels_over_a_reflected_border(side: int, margin: int, shift: int, seed: int) -> None:
    """Each is one of torch's own turns of one window of the crop, which torch's own padding has reflected."""
    torch.manual_seed(seed)
    keep = max(1, side - 2 * margin)
    keep += (side - keep) % 2
    crops = torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8)
    moved = turn_and_shift(crops, keep, shift)
    wide = np.pad(crops.numpy(), ((0, 0), (shift, shift), (shift, shift), (0, 0)), "reflect")
    start = (side - keep) // 2
    for one, around in zip(moved, torch.from_numpy(wide), strict=True):
        windows = around.unfold(0, keep, 1).unfold(1, keep, 1)[
            start : start + 2 * shift + 1, start : start + 2 * shift + 1
        ]
        found = [(windows == turn).all(dim=(2, 3, 4)).any() for turn in _turns(one.permute(2, 0, 1))]
        assert any(found)


def test_shifts_reach_each_place_within_the_limit() -> None:
    torch.manual_seed(0)
    crops = torch.zeros(400, 11, 11, 3, dtype=torch.uint8)
    crops[:, 5, 5] = 1
    moved = turn_and_shift(crops, 11, 2)
    assert (moved.sum(dim=(1, 2)) == 1).all()
    places = {tuple(place) for place in moved[..., 0].nonzero()[:, 1:].tolist()}
    assert places == {(y, x) for y in range(3, 8) for x in range(3, 8)}


def test_draws_follow_the_seed_and_stay_in_range() -> None:
    augment = DeviceAugment(0.2, 0.1, 2, 0.0, [1.0, 1.0])
    crops = torch.randint(0, 256, (8, 20, 20, 3), dtype=torch.uint8)
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(augment(crops, 16))
    assert torch.equal(*outs)
    assert outs[0].shape == (8, 3, 16, 16)
    assert outs[0].min() >= 0
    assert outs[0].max() <= 1
    torch.manual_seed(3)
    same = augment(crops[:1].expand(8, 20, 20, 3), 16)
    assert not torch.equal(same[0], same[1])


def test_albumentations_has_the_same_intent() -> None:
    crop = np.random.default_rng(0).integers(1, 256, (9, 9, 3), dtype=np.uint8)
    out = AlbumentationsAugment(stain_gain=0, stain_offset=0, shift_px=0)(np.repeat(crop[None], 100, axis=0), 0)
    turns = [t.permute(1, 2, 0).numpy() for t in _turns(torch.from_numpy(crop).permute(2, 0, 1))]
    seen = {next(i for i, turn in enumerate(turns) if np.array_equal(turn, one)) for one in out}
    assert seen == set(range(8))
    batch = np.repeat(crop[None], 4, axis=0)
    first = AlbumentationsAugment(0.1, 0.05, 2)(batch, seed=1)
    np.testing.assert_array_equal(first, AlbumentationsAugment(0.1, 0.05, 2)(batch, seed=1))
    assert not np.array_equal(first, AlbumentationsAugment(0.1, 0.05, 2)(batch, seed=2))
    assert not np.array_equal(first[0], first[1])


def test_jitter_is_the_same_on_both_ways() -> None:
    """At equal draws the CPU's crops are the device's, rounded to bytes."""
    crop = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3), dtype=np.uint8)
    cpu = AlbumentationsAugment(0.2, 0.1, 0)(crop, seed=4)
    draws = torch.empty(2, 1, 3).uniform_(-1, 1, generator=torch.Generator().manual_seed(4))
    device = jitter_stain(torch.from_numpy(crop), 1 + 0.2 * draws[0], 0.1 * draws[1])[0]
    turned = torch.from_numpy(cpu[0]).permute(2, 0, 1) / 255
    assert min((turned - turn).abs().max() for turn in _turns(device)) < 0.003


@pytest.mark.parametrize("build", [partial(DeviceAugment, erasing=0, scale=[1, 1]), AlbumentationsAugment])
def test_bad_strengths(build: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="augment.stain_gain must be in"):
        build(stain_gain=-0.1, stain_offset=0, shift_px=0)
    with pytest.raises(ValueError, match="augment.shift_px must be in"):
        build(stain_gain=0, stain_offset=0, shift_px=-1)
