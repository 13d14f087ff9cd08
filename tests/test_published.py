"""Each pretrained model against its authors' network: names and shapes in full size, and the features of a small one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from published import REFERENCES, Reference
from safetensors.torch import save_file
from small_models import with_arguments
from torch import Tensor

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.models.spec import ModelSpec
from cellpatch.models.state_dict_converters import STATE_DICT_CONVERTERS
from cellpatch.models.weights import Weights

ELSEWHERE = {"ctranspath", "efficientnet_lite0", "resnet_rs50"}  # not ViTs: tests/test_weights.py
OF_EACH_LAYOUT = {"dinobloom_s", "dinov3_s", "h0_mini", "hibou_b", "keep", "lemon_s", "phikon"}


def _model(name: str, *overrides: str) -> ModelSpec:
    return assemble(compose_config([f"model={name}", *overrides])).model


def _weights_of(model: ModelSpec) -> Weights:
    assert model.weights is not None
    return model.weights


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may keep them one level down."""
    for key in ("state_dict", "teacher"):
        content = content.get(key, content)
    return dict(content)


def _moved(network: Any) -> None:
    """Move every value, so that no tensor equals its first value by chance."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))


def _save(content: Any, file: Path) -> None:
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, file)
    else:
        torch.save(content, file)


@pytest.fixture(
    params=[each if each in OF_EACH_LAYOUT else pytest.param(each, marks=pytest.mark.long) for each in REFERENCES]
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_pretrained_model_has_its_authors_network() -> None:
    files = {file.stem: OmegaConf.load(file) for file in (ROOT / "conf" / "model").glob("*.yaml")}
    layouts = {name: file.weights.layout for name, file in files.items() if file.get("weights")}
    assert {*REFERENCES, *ELSEWHERE} == layouts.keys()
    assert not ELSEWHERE & REFERENCES.keys()
    assert {*layouts.values()} == STATE_DICT_CONVERTERS.keys(), "no layout without a model"
    assert {layouts[name] for name in OF_EACH_LAYOUT} == {*layouts.values()} - {"ctranspath", "in_order"}


def _published_in_full(reference: Reference) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = reference.build(reference.width, reference.depth, reference.side)
        return _tensors(reference.file_of(network))


@pytest.mark.long
def test_the_published_tensors_fit_in_full_size_and_no_others(name: str) -> None:
    reference, model = REFERENCES[name], _model(name)
    backbone: Any = model.on_meta()
    published = _published_in_full(reference)
    convert = STATE_DICT_CONVERTERS[_weights_of(model).layout]
    names = list(backbone.net.state_dict())
    backbone.check_published(convert(published, names))
    assert backbone.num_features == reference.num_features
    arguments: Mapping[str, Any] = model.arguments
    assert arguments["pretrained_img_size"] == reference.side
    assert model.input_px % reference.patch == 0
    tokens = backbone.net.forward_features(torch.empty(1, 3, model.input_px, model.input_px, device="meta"))
    places = (model.input_px // reference.patch) ** 2
    assert tokens.shape == (1, 1 + reference.registers + places, reference.width)
    prefix = {"moco": "module.base_encoder.", "visual": "visual."}.get(_weights_of(model).layout, "")
    for unknown in (f"{prefix}blocks.0.new", f"{prefix}encoder.layer.0.new"):
        with pytest.raises(ValueError, match="1 unexpected"):
            backbone.check_published(convert({**published, unknown: torch.empty(1, device="meta")}, names))
    some = next(key for key in published if key.endswith("norm1.weight") or key.endswith("norm_before.weight"))
    with pytest.raises(ValueError, match="1 missing"):
        backbone.check_published(convert({k: v for k, v in published.items() if k != some}, names))


def test_a_published_file_gives_its_authors_features(name: str, tmp_path: Path) -> None:
    reference = REFERENCES[name]
    side, width = 3 * reference.patch, reference.small_width
    torch.manual_seed(0)
    network = reference.build(width, 2, side).eval()
    _moved(network)
    weights = _weights_of(_model(name))
    assert weights.hub_file is not None
    file = tmp_path / weights.hub_file
    _save(reference.file_of(network), file)
    small = {"embed_dim": width, "depth": 2}
    model = _model(name, f"model.weights.file={file}")
    model = with_arguments(model, {"input_px": side, "pretrained_img_size": side}, small)
    backbone = model.open(model.weights_fingerprint()).eval()
    x = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(model.arguments[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = reference.features_of(network, (x - mean) / std)
        torch.testing.assert_close(backbone(x), expected, atol=1e-4, rtol=1e-4)
    _check_lora_s_targets(name, backbone)


def _check_lora_s_targets(name: str, backbone: Any) -> None:
    """They are the linear layers of every block, each in each."""
    config: Any = assemble(compose_config([f"model={name}"])).settings.config
    layers = {key for key, module in backbone.net.named_modules() if isinstance(module, torch.nn.Linear)}
    targets = config["model"]["recipe"]["lora_targets"]
    found = {target: {layer for layer in layers if layer.endswith(f".{target}")} for target in targets}
    assert {len(names) for names in found.values()} == {2}
    assert set().union(*found.values()) == layers
