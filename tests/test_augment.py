from collections.abc import Callable

import numpy as np
import pytest
import torch

from cellpatch.augment import AlbumentationsAugment, KorniaAugment, jitter_stain, shift


def _turns(x: torch.Tensor) -> list[torch.Tensor]:
    """The eight flips and right-angle rotations of [3, h, w]."""
    return [torch.rot90(y, k, (1, 2)) for k in range(4) for y in (x, x.flip(2))]


def test_stain_jitter_is_linear_in_optical_density() -> None:
    x = torch.full((1, 3, 2, 2), 0.1)  # optical density 1
    gain, offset = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.0, 0.0, 0.25]])
    density = -torch.log10(jitter_stain(x, gain, offset))[0, :, 0, 0]
    torch.testing.assert_close(density, torch.tensor([1.0, 2.0, 0.75]))


def test_white_stays_white_and_black_stays_finite() -> None:
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    out = jitter_stain(x, torch.full((1, 3), 1.2), torch.zeros(1, 3))
    assert torch.isfinite(out).all()
    assert (out[..., 1] == 1).all()


def test_kornia_gives_the_eight_turns_and_nothing_else() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 9, 9)
    out = KorniaAugment(stain_gain=0, stain_offset=0, shift_px=0)(x.expand(200, 3, 9, 9))
    expected = torch.stack(_turns(x))
    distance = (out[:, None] - expected[None]).abs().amax(dim=(2, 3, 4))
    assert distance.amin(dim=1).max() < 1e-4
    assert set(distance.argmin(dim=1).tolist()) == set(range(8))


def test_shift_moves_by_whole_pixels_within_the_limit() -> None:
    torch.manual_seed(0)
    x = torch.zeros(300, 3, 11, 11)
    x[:, :, 5, 5] = 1
    moved = shift(x, 2)
    assert (moved.sum(dim=(2, 3)) == 1).all()
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(y, x) for y in range(3, 8) for x in range(3, 8)}
    assert torch.equal(shift(x, 0), x)


def test_draws_follow_the_seed_and_stay_in_range() -> None:
    augment = KorniaAugment(0.2, 0.1, 2)
    x = torch.rand(8, 3, 20, 20)
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(augment(x))
    assert torch.equal(*outs)
    assert outs[0].min() >= 0
    assert outs[0].max() <= 1
    assert not torch.equal(outs[0][0], outs[0][1])


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
    x = torch.from_numpy(crop).permute(0, 3, 1, 2) / 255
    device = jitter_stain(x, 1 + 0.2 * draws[0], 0.1 * draws[1])[0]
    turned = torch.from_numpy(cpu[0]).permute(2, 0, 1) / 255
    assert min((turned - turn).abs().max() for turn in _turns(device)) < 0.003


@pytest.mark.parametrize("build", [KorniaAugment, AlbumentationsAugment])
def test_bad_strengths(build: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="augment.stain_gain must be in"):
        build(stain_gain=-0.1, stain_offset=0, shift_px=0)
    with pytest.raises(ValueError, match="augment.shift_px must be in"):
        build(stain_gain=0, stain_offset=0, shift_px=-1)
