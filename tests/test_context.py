"""Features of the cell alone, of a network that sees its surroundings too."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import start_python
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpatch.models.timm import TimmBackbone, mean_of_cell

USUAL = {"pretrained_img_size": None, "strides": {}, "removed_layers": [], "mean": [0.5] * 3, "std": [0.5] * 3}


def _vit(**changed: object) -> TimmBackbone:
    torch.manual_seed(0)
    usual = USUAL | {"architecture": "vit_small_patch14_dinov2", "input_px": 112, "pretrained_img_size": 518}
    usual |= {"pooling": "own", "options": {"embed_dim": 48, "depth": 2, "num_heads": 3}}
    return TimmBackbone(**(usual | changed)).eval()  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), hundredths=st.integers(1, 100), seed=st.integers(0, 99))
def test_the_mean_is_over_a_square_at_the_centre(n: int, hundredths: int, seed: int) -> None:
    """The oracle counts fine pixels: each place is 200 of them wide."""
    places = torch.randn(2, 3, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    fine = places.repeat_interleave(200, dim=2).repeat_interleave(200, dim=3)
    half = n * hundredths  # of the square, in fine pixels: its side is hundredths / 100 of 200 n
    square = fine[:, :, n * 100 - half : n * 100 + half, n * 100 - half : n * 100 + half]
    assert torch.allclose(mean_of_cell(places, hundredths / 100), square.mean(dim=(2, 3)), atol=1e-9)


def test_tokens_of_the_cell_are_those_at_the_centre() -> None:
    """At 112 px a patch of 14 px is an eighth: a quarter of the side is the four tokens at the centre."""
    crops = torch.rand(2, 3, 112, 112)
    whole, cell = _vit(), _vit(cell_share=0.25)
    cell.load_state_dict(whole.state_dict())
    tokens = whole.net.forward_features(whole.normalise(crops))[:, 1:].unflatten(1, (8, 8))
    expected = tokens[:, 3:5, 3:5].mean(dim=(1, 2))
    assert torch.allclose(cell(crops), expected, atol=1e-5)
    joined = _vit(cell_share=0.25, pooling="token_and_mean")
    joined.load_state_dict(whole.state_dict())
    token = whole.net.forward_features(whole.normalise(crops))[:, 0]
    assert torch.allclose(joined(crops), torch.cat([token, expected], dim=1), atol=1e-5)
    assert joined.num_features == 96


@pytest.mark.parametrize("architecture", ["resnet18", "efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_the_whole_input_is_the_mean_over_all_places(architecture: str) -> None:
    """Of a network that pools by the mean: channels last (Swin) or first."""
    usual = USUAL | {"architecture": architecture, "input_px": 224, "pooling": "own", "options": {}}
    torch.manual_seed(0)
    whole = TimmBackbone(**usual).eval()  # type: ignore[arg-type]
    cell = TimmBackbone(**usual, cell_share=1.0).eval()  # type: ignore[arg-type]
    cell.load_state_dict(whole.state_dict())
    crops = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(cell(crops), whole(crops), atol=1e-4)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, np.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="cell_share must be > 0 and at most 1"):
        _vit(cell_share=share)


def test_a_network_with_layers_behind_its_pooling_is_refused() -> None:
    usual = USUAL | {"architecture": "mobilenetv3_small_050", "input_px": 64, "pooling": "own", "options": {}}
    with pytest.raises(ValueError, match="mobilenetv3_small_050 has layers behind its pooling"):
        TimmBackbone(**usual, cell_share=0.5)  # type: ignore[arg-type]


def test_the_experiment_compares_a_crop_blown_up_with_a_cell_in_its_field(tmp_path: Path) -> None:
    """As jobs of the grid are composed, on points whose images are missing."""
    (tmp_path / "points.csv").write_text("image,x,y,class\na.png,1,1,a\n")
    words = ["train", "-m", "experiment=context", "data=points", f"data.root={tmp_path}", "data.points=points.csv"]
    words += ["model=efficientnet_lite0", "logger=none"]
    process = start_python("-m", "cellpatch", *words, f"runs_dir={tmp_path / 'runs'}")
    out, err = process.communicate(timeout=300)
    jobs = [line for line in (out + err).splitlines() if "data.field_um=" in line and "#" in line]
    assert process.returncode == 1
    assert {"data.field_um=10" in job for job in jobs} == {True, False}
    assert all("data.widest_field_um=112" in job for job in jobs)
    assert all(("model.backbone.cell_share=0.09" in job) == ("data.field_um=112" in job) for job in jobs)
