"""One contract for every file in conf/model."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf

from cellpatch.config import build
from cellpatch.models.backbone import Backbone, Normalise, count_macs, count_parameters
from cellpatch.models.customvit import CustomViT

MODELS = sorted((ROOT / "conf" / "model").glob("*.yaml"))


def _config(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(file))
    return config


@pytest.fixture(params=MODELS, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def backbone(file: Path) -> Backbone:
    torch.manual_seed(0)
    return build(_config(file)["backbone"])


def test_names_and_recipe(file: Path) -> None:
    config = _config(file)
    assert config["name"] == file.stem
    assert set(config["recipe"]) == {"lr", "weight_decay", "warmup"}


def test_features_are_finite_of_the_promised_size(backbone: Backbone) -> None:
    side = backbone.input_px
    for b in (1, 3):
        features = backbone.eval()(torch.rand(b, 3, side, side))
        assert features.shape == (b, backbone.num_features)
        assert torch.isfinite(features).all()


def test_every_parameter_gets_a_gradient(backbone: Backbone) -> None:
    backbone.train()(torch.rand(4, 3, backbone.input_px, backbone.input_px)).square().sum().backward()
    silent = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


def test_evaluation_is_deterministic_and_per_cell(backbone: Backbone) -> None:
    x = torch.rand(4, 3, backbone.input_px, backbone.input_px)
    backbone.eval()
    together = backbone(x)
    torch.testing.assert_close(together, backbone(x), atol=0, rtol=0)
    torch.testing.assert_close(together[2:3], backbone(x[2:3]), atol=1e-5, rtol=1e-4)


def test_docstring_states_the_cost(backbone: Backbone) -> None:
    stated = re.search(r"([\d.]+) M parameters, (\d+) MMAC", type(backbone).__doc__ or "")
    assert stated, "the docstring must state parameters and MACs of the default configuration"
    assert float(stated[1]) == round(count_parameters(backbone) / 1e6, 2)
    assert int(stated[2]) == round(count_macs(backbone) / 1e6)


def test_macs_of_known_layers() -> None:
    class Known(Backbone):
        input_px = 8
        num_features = 5

        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.linear = torch.nn.Linear(4 * 8 * 8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.convolution(x).flatten(1))

    assert count_macs(Known()) == 8 * 8 * 4 * 3 * 9 + 4 * 8 * 8 * 5
    assert count_parameters(Known()) == 3 * 4 * 9 + 4 + 256 * 5 + 5


def test_normalise() -> None:
    out = Normalise([0.5, 0.25, 0.0], [0.5, 0.25, 1.0])(torch.full((1, 3, 2, 2), 0.5))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.5]))
    with pytest.raises(ValueError, match="mean and std must have 3 values"):
        Normalise([0.5], [0.5])


def test_customvit_refuses_tokens_that_do_not_tile() -> None:
    with pytest.raises(ValueError, match="token_px must be even and divide input_px"):
        CustomViT(40, 7, 8, 32, 1, 2, 0.0, [0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize("token_px", [2, 4, 8, 10])
def test_customvit_positions_matter(token_px: int) -> None:
    torch.manual_seed(0)
    model = CustomViT(40, token_px, 8, 32, 1, 2, 0.0, [0.5] * 3, [0.5] * 3).eval()
    assert model.stem(torch.rand(1, 3, 40, 40)).shape == (1, 40 // token_px, 40 // token_px, 32)
    x = torch.rand(1, 3, 40, 40)
    assert (model(x) - model(x.flip(3))).abs().max() > 1e-4
