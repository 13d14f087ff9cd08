import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

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


def test_constants_stay() -> None:
    np.testing.assert_allclose(resize_matrix(37, 40).sum(1), 1, atol=1e-6)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="margin_px must leave a crop inside 8 px, but got 4"):
        crop_matrix(8, 4)
    with pytest.raises(ValueError, match="sides must be >= 1 px"):
        resize_matrix(8, 0)
    with pytest.raises(ValueError, match="takes crops of 12 px, but got 10"):
        Optics(8, 2, 8)(torch.zeros(1, 3, 10, 10))
    with pytest.raises(ValueError, match="no blur"):
        Condition("pre", 1.6)
