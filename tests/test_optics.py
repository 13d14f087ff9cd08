import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from cellpatch.data.datamodule import to_pixels
from cellpatch.optics import Condition, Optics, crop_matrix, resize_matrix


@settings(max_examples=40, deadline=None)
@given(crop=st.integers(8, 96), margin=st.integers(0, 20), target=st.integers(8, 96))
def test_equals_the_direct_chain(crop: int, margin: int, target: int) -> None:
    x = torch.rand(2, 3, crop + 2 * margin, crop + 2 * margin, generator=torch.Generator().manual_seed(crop))
    cropped = x[..., margin : margin + crop, margin : margin + crop]
    direct = interpolate(cropped, (target, target), mode="bilinear", antialias=True)
    torch.testing.assert_close(Optics(crop, margin, target)(x), direct, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "target"), [(80, 40), (20, 40), (33, 40), (40, 224)])
def test_resize_is_pillows(source: int, target: int) -> None:
    crop = np.random.default_rng(0).random((source, source), dtype=np.float32)
    pillow = np.asarray(Image.fromarray(crop).resize((target, target), Image.Resampling.BILINEAR))
    x = torch.from_numpy(crop).expand(1, 3, -1, -1)
    np.testing.assert_allclose(Optics(source, 0, target)(x)[0, 0], pillow, atol=1e-5)


def test_at_its_own_side_a_crop_is_untouched() -> None:
    x = torch.rand(2, 3, 66, 66)
    assert torch.equal(Optics(40, 13, 40)(x), x[..., 13:53, 13:53])


@pytest.mark.parametrize(("crop", "margin", "extra"), [(40, 13, 0), (40, 13, 2), (20, 7, 9), (33, 0, 2)])
def test_trimming_takes_away_what_is_not_read(crop: int, margin: int, extra: int) -> None:
    optics = Optics(crop, margin, 40)
    crops = torch.randint(0, 256, (2, crop + 2 * margin, crop + 2 * margin, 3), dtype=torch.uint8)
    trimmed = optics.trim(crops, extra)
    assert trimmed.shape[1] == crop + 2 * min(extra, margin)
    assert torch.equal(optics(to_pixels(trimmed)), optics(to_pixels(crops)))


def test_constants_stay() -> None:
    np.testing.assert_allclose(resize_matrix(37, 40).sum(1), 1, atol=1e-6)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="margin_px must leave a crop inside 8 px, but got 4"):
        crop_matrix(8, 4)
    with pytest.raises(ValueError, match="sides must be >= 1 px"):
        resize_matrix(8, 0)
    for side in (6, 11):
        with pytest.raises(ValueError, match=rf"takes crops of 8 \+ 2n px, but got {side}"):
            Optics(8, 2, 8)(torch.zeros(1, 3, side, side))
    with pytest.raises(ValueError, match="no blur"):
        Condition("pre", 1.6, 40)
