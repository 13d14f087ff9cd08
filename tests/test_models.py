"""One contract for every file in conf/model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT, config_of
from small_models import fine_tuning, stand_in
from torch import nn
from torch.utils.data import DataLoader

from cellpatch.api import load_run
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config, models
from cellpatch.data.store.reader import CellStore
from cellpatch.models.backbone import Backbone, Normalise, check_shapes, count_macs, count_parameters, trained_state
from cellpatch.models.customvit import CustomViT, StagedStem
from cellpatch.models.map_size import advice, map_side
from cellpatch.models.network import Network
from cellpatch.models.nin import NIN
from cellpatch.models.spec import ModelSpec
from cellpatch.models.timm import TimmBackbone
from cellpatch.optics.conditions import CLEAN
from cellpatch.optics.operator import OpticalPath
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.preflight import _checked_backbone
from cellpatch.runs.stored_run import StoredRun
from cellpatch.sweeps.train import train
from cellpatch.training.adaptation import AllLayers, FineTuning, LastLayer, Lora
from cellpatch.training.lightning_module import Classifier, TrainingInput

MODELS = [file.stem for file in sorted((ROOT / "conf" / "model").glob("*.yaml"))]
SCHEDULE = fine_tuning(lr=1e-2, weight_decay=0.05, warmup=0.1, batch_size=4, average_over=0)


def _assemble(name: str, *overrides: str) -> Experiment:
    return assemble(compose_config([f"model={name}", *overrides]))


def _recipe(name: str) -> dict[str, Any]:
    config: Any = _assemble(name).settings.config
    recipe: dict[str, Any] = config["model"]["recipe"]
    return recipe


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> ModelSpec:
    return _assemble(request.param).model


@pytest.fixture
def backbone(model: ModelSpec) -> Backbone:
    return _shaken(stand_in(model))


def _shaken(backbone: Backbone) -> Backbone:
    """With every value moved, so that no gradient is zero because a norm or layer scale starts at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return backbone


@pytest.mark.long
def test_names_and_recipe(model: ModelSpec) -> None:
    assert model.name in MODELS
    stain = {"stain_gain", "stain_offset"}
    if model.weights is not None:
        assert set(_recipe(model.name)) == stain | {"lora_targets"}
        assert model.weights.licence
        assert model.weights.terms
    elif model.has_features:
        assert set(_recipe(model.name)) == stain
    else:
        assert set(_recipe(model.name)) == stain | {"lr", "weight_decay", "warmup"}
        assert model.input_px == 40


@pytest.mark.long
def test_a_model_brings_its_way_of_adapting(model: ModelSpec) -> None:
    expected = "linear_probe" if model.has_features else "scratch"
    assert _assemble(model.name).settings.adapt.name == expected
    assert compose_config([f"model={model.name}", "adapt=knn"]).adapt.name == "knn"


@pytest.mark.long
def test_features_are_finite_of_the_promised_size(backbone: Backbone) -> None:
    side = backbone.input_px
    for b in (1, 3):
        features = backbone.eval()(torch.rand(b, 3, side, side))
        assert features.shape == (b, backbone.num_features)
        assert torch.isfinite(features).all()


def test_colour_is_numpy_s_mean_and_deviation_of_optical_density() -> None:
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 40, 40)).astype(np.uint8))
    features = _assemble("colour").model.create()(crops / 255).numpy()
    density = -np.log10((crops.numpy() + 1.0) / 256)
    np.testing.assert_allclose(features[:, :3], density.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(features[:, 3:], density.std(axis=(2, 3)), rtol=1e-4)


def test_colour_has_nothing_to_train(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    fixed = ["model=colour", "flag_limit=4", "adapt=ft_all", "adapt.lr=0.01", "adapt.weight_decay=0", "adapt.warmup=0"]
    with pytest.raises(ValueError, match=r"adapt=ft_all trains weights, but model=colour has none: use adapt=linear"):
        train(config_of(tmp_path, folder_of_squares(), *fixed))
    with pytest.raises(ValueError, match=r"adapt.teacher must have published weights, but colour has none"):
        assemble(compose_config(["model=cnn", "adapt=distil", "adapt.teacher=colour"]))
    outcome = train(config_of(tmp_path, folder_of_squares(), *fixed[:2]))
    assert outcome.state == "trained"
    [folder] = (tmp_path / "runs").glob("colour-*")
    store = CellStore(next((tmp_path / "stores").glob("folder-*[!k]")))
    rows, _, stored = StoredRun.open(folder).predictions[CLEAN]
    crops = store.crops(np.flatnonzero(store.cells["cell_id"].isin(rows["cell_id"])))
    run = load_run(folder)
    assert run.features(crops).shape == (len(rows), 6)
    np.testing.assert_allclose(run.predict(crops), stored, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, pretrained in models().items() if not pretrained])
def test_a_map_of_five_is_left_at_forty_pixels(name: str) -> None:
    backbone: Any = _assemble(name).model.create().eval()
    x = torch.rand(1, 3, 40, 40)
    if isinstance(backbone, TimmBackbone):
        features = backbone.net.forward_features(x)
        if features.ndim != 4:
            pytest.skip("gives tokens, no map")
        _, channels, rows, columns = features.shape
        assert channels == backbone.net.num_features, "before a head that widens them, as MobileNet's"
        assert min(rows, columns) >= 5
        return
    if isinstance(backbone, CustomViT):
        _, rows, columns, channels = backbone.stem(x).shape
    elif hasattr(backbone, "stages"):
        _, channels, rows, columns = backbone.stages(x).shape
    else:
        pytest.skip("has no stages")
    assert min(rows, columns) >= 5
    assert channels == backbone.num_features


def _skip_without_parameters(backbone_class: type[Backbone]) -> None:
    if backbone_class.fixed:
        pytest.skip("has no parameters")


@pytest.mark.long
def test_every_parameter_gets_a_gradient(backbone: Backbone) -> None:
    _skip_without_parameters(type(backbone))
    backbone.train()(torch.rand(4, 3, backbone.input_px, backbone.input_px)).square().sum().backward()
    silent = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


def test_evaluation_is_deterministic_and_per_cell(backbone: Backbone) -> None:
    x = torch.rand(4, 3, backbone.input_px, backbone.input_px)
    backbone.eval()
    together = backbone(x)
    torch.testing.assert_close(together, backbone(x), atol=0, rtol=0)
    torch.testing.assert_close(together[2:3], backbone(x[2:3]), atol=1e-4, rtol=1e-3)


def test_layers_are_all_parameters_from_input_to_output(model: ModelSpec, backbone: Backbone) -> None:
    _skip_without_parameters(type(backbone))
    names = [name for layer in backbone.layers() for name in layer]
    assert sorted(names) == sorted(name for name, _ in backbone.named_parameters())
    assert any(backbone.get_parameter(name).ndim > 1 for name in backbone.layers()[-1])
    if model.pretrained and isinstance(backbone, TimmBackbone) and hasattr(backbone.net, "blocks"):
        assert any(".blocks." in name for name in backbone.layers()[-1])


def _adaptations(model: ModelSpec) -> dict[str, FineTuning]:
    if not model.pretrained:
        scratch = _assemble(model.name).adaptation
        assert isinstance(scratch, FineTuning)
        return {"scratch": scratch}
    targets = _recipe(model.name)["lora_targets"]
    return {
        "ft_last": LastLayer(**SCHEDULE, block_rate=0.1),
        "ft_all": AllLayers(**SCHEDULE, layer_decay=0.5),
        "lora": Lora(**SCHEDULE, rank=2, alpha=4, dropout=0.0, targets=targets),
    }


def test_lora_s_settings_reach_its_layers() -> None:
    model = _assemble("dinov2_s").model
    backbone = stand_in(model)
    Lora(**SCHEDULE, rank=2, alpha=6, dropout=0.25, targets=["qkv"]).freeze_and_scale_lr(backbone)
    layers = [module for module in backbone.modules() if hasattr(module, "lora_A")]
    assert len(layers) == sum(name.endswith("qkv") for name, _ in stand_in(model).named_modules()) > 0
    for layer in layers:
        assert layer.scaling["default"] == 6 / 2
        assert layer.lora_dropout["default"].p == 0.25
        assert layer.lora_A["default"].weight.shape[0] == 2


@pytest.mark.long
def test_a_fit_moves_what_is_trained_and_nothing_else(model: ModelSpec, tmp_path: Path) -> None:
    _skip_without_parameters(model.backbone_class)
    crops = torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = (crops, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    for name, schedule in _adaptations(model).items():
        torch.manual_seed(0)
        backbone = _shaken(stand_in(model))
        rates = schedule.freeze_and_scale_lr(backbone)
        network = Network(backbone, OpticalPath(16, 0, backbone.input_px).under(), nn.Linear(backbone.num_features, 3))
        classifier = Classifier(network, [1] * 3, schedule, rates, TrainingInput(None, network.optics))
        before = {key: value.clone() for key, value in network.state_dict().items()}
        names = {id(p): key for key, p in network.named_parameters()}
        trainer = pl.Trainer(  # LoRA's second matrix starts at zero, so its first moves in the second step
            max_steps=2, accelerator="cpu", default_root_dir=tmp_path, barebones=True
        )
        trainer.fit(classifier, DataLoader([batch, batch], batch_size=None, collate_fn=tuple))
        frozen = [key for key, p in network.named_parameters() if not p.requires_grad]
        assert all(network.get_parameter(key).grad is None for key in frozen)
        trained = trained_state(network)
        moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
        assert moved - trained.keys() == set(), f"{name}: frozen tensors, or norms' counts, moved"
        assert trained.keys() - moved == set(), f"{name}: no gradient reached them"
        assert bool(frozen) == (name in ("ft_last", "lora"))
        given = {
            names[id(p)]: (group["initial_lr"], group["weight_decay"], p.ndim)
            for group in trainer.optimizers[0].param_groups
            for p in group["params"]
        }
        assert {key.removeprefix("backbone.") for key in given} == {*rates, "head.weight", "head.bias"}
        for key, (lr, decay, ndim) in given.items():
            assert lr == schedule.lr * (1 if key.startswith("head.") else rates[key.removeprefix("backbone.")])
            assert decay == (schedule.weight_decay if ndim > 1 else 0), "vectors are not decayed"


def test_rates_fall_towards_the_input() -> None:
    backbone = stand_in(_assemble("dinov2_s").model)
    rates = AllLayers(**SCHEDULE, layer_decay=0.5).freeze_and_scale_lr(backbone)
    assert len(backbone.layers()) == 4
    assert rates["net.norm.weight"] == rates["net.blocks.2.attn.qkv.weight"] == 1
    assert rates["net.blocks.0.norm1.bias"] == 0.25
    assert rates["net.patch_embed.proj.weight"] == rates["net.pos_embed"] == 0.125
    last = LastLayer(**SCHEDULE, block_rate=0.1).freeze_and_scale_lr(backbone)
    assert {name.split(".")[1] for name in last} == {"blocks", "norm"}
    assert set(last.values()) == {0.1}
    assert not any(".blocks.0." in name or ".blocks.1." in name for name in last)


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (LastLayer, {"block_rate": 0.0}, "adapt.block_rate must be in"),
        (AllLayers, {"layer_decay": 1.5}, "adapt.layer_decay must be in"),
        (Lora, {"rank": 0, "alpha": 1, "dropout": 0.0, "targets": ["qkv"]}, "adapt.rank must be >= 1"),
        (
            Lora,
            {"rank": 1, "alpha": 1, "dropout": 0.0, "targets": ["qkv", "nothing"]},
            "adapt.targets must name layers of the model, but got .*nothing.*; it has ",
        ),
    ],
)
def test_bad_ways_of_adapting(kind: type[FineTuning], setting: dict[str, Any], message: str) -> None:
    backbone = stand_in(_assemble("dinov2_s").model)
    with pytest.raises(ValueError, match=message):
        kind(**SCHEDULE, **setting).freeze_and_scale_lr(backbone)


def test_docstrings_state_the_cost() -> None:
    for name in ("cnn", "nin", "customvit"):
        backbone = _assemble(name).model.create()
        stated = re.search(r"([\d.]+) M parameters,\s+(\d+) MMAC", type(backbone).__doc__ or "")
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
    assert Known().layers() == [["convolution.weight", "convolution.bias"], ["linear.weight", "linear.bias"]]


def test_normalise() -> None:
    out = Normalise([0.5, 0.25, 0.0], [0.5, 0.25, 1.0])(torch.full((1, 3, 2, 2), 0.5))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.5]))
    with pytest.raises(ValueError, match="mean and std must have 3 values"):
        Normalise([0.5], [0.5])


def test_nin_refuses_other_than_three_widths() -> None:
    with pytest.raises(ValueError, match="widths must be three > 0 and dropout in"):
        NIN(40, [8, 8], 0.0, [0.5] * 3, [0.5] * 3)


def test_customvit_refuses_tokens_that_do_not_tile() -> None:
    with pytest.raises(ValueError, match="token_px must be > 1 and divide input_px"):
        CustomViT(40, 7, 8, 32, 1, 2, 0.0, [0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize(("token_px", "stem"), [(5, "staged"), (10, "staged")])
def test_customvit_refuses_stems_that_have_no_such_tokens(token_px: int, stem: Any) -> None:
    with pytest.raises(ValueError, match="stem must be single, or staged with token_px a power of two"):
        CustomViT(40, token_px, 8, 32, 1, 2, 0.0, [0.5] * 3, [0.5] * 3, stem)


def test_the_staged_stem_halves_the_side_at_each_stage() -> None:
    stem = StagedStem(8, 24, 8)
    kernels = [each for each in stem.modules() if isinstance(each, nn.Conv2d)]
    assert [each.out_channels for each in kernels] == [8, 8, 16, 16, 32, 32, 24]
    assert [each.stride[0] for each in kernels] == [1, 1, 2, 1, 2, 1, 2]
    assert stem(torch.rand(2, 3, 40, 40)).shape == (2, 5, 5, 24)


@pytest.mark.parametrize(
    ("token_px", "stem"), [*((px, "single") for px in (2, 4, 5, 8, 10)), *((px, "staged") for px in (2, 4, 8))]
)
def test_customvit_positions_matter(token_px: int, stem: Any) -> None:
    torch.manual_seed(0)
    model = CustomViT(40, token_px, 8, 32, 1, 2, 0.0, [0.5] * 3, [0.5] * 3, stem).eval()
    assert model.stem(torch.rand(1, 3, 40, 40)).shape == (1, 40 // token_px, 40 // token_px, 32)
    x = torch.rand(1, 3, 40, 40)
    assert (model(x) - model(x.flip(3))).abs().max() > 1e-4


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "dinov2_s",
            ["model.backbone.input_px=48"],
            r"multiple of its patches' 14 px, at least two patches \(28, 42, 56.*got 48",
        ),
        ("uni", ["model.backbone.input_px=16"], "multiple of its patches' 16 px, at least two patches"),
        ("ctranspath", ["model.backbone.input_px=112"], "must be 224, but got 112: .* fixed windows"),
        ("resnet", ["model.backbone.architecture=resnet1"], "timm cannot build resnet1"),
        ("resnet", ["+model.backbone.options.typo=1"], "timm cannot build resnet18 with .*typo"),
        ("resnet", ["+model.backbone.strides.conv9=1"], "must name layers of the network, but got 'conv9'"),
        ("resnet", ["model.backbone.removed_layers=[pool]"], "must name layers of the network, but got 'pool'"),
        ("resnet", ["model.backbone.pooling=token_and_mean"], "resnet18 has no class token"),
    ],
)
def test_what_an_architecture_cannot_take(name: str, overrides: list[str], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        _assemble(name, *overrides).model.create()


def test_a_layer_can_be_dropped() -> None:
    backbone: Any = _assemble("resnet", "model.backbone.removed_layers=[maxpool]").model.create()
    assert backbone.net.forward_features(torch.rand(1, 3, 40, 40)).shape[-1] == 10


def test_token_and_mean_leaves_registers_out() -> None:
    backbone = stand_in(_assemble("virchow2").model).eval()
    assert isinstance(backbone, TimmBackbone)
    x = torch.rand(2, 3, backbone.input_px, backbone.input_px)
    tokens = backbone.net.forward_features((x - backbone.normalise.mean) / backbone.normalise.std)
    assert tokens.shape[1] == 1 + 4 + 9  # class token, four registers, patches
    torch.testing.assert_close(backbone(x), torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], 1))


def test_no_list_of_models_is_kept() -> None:
    sources = [*(ROOT / "cellpatch").rglob("*.py"), ROOT / "Makefile", ROOT / "train.py"]
    named = [(file.name, name) for file in sources for name in ("virchow2", "h_optimus_0") if name in file.read_text()]
    assert named == []
    assert Path(ROOT / "conf" / "model" / "virchow2.yaml").exists()


@pytest.mark.long
def test_a_backbone_that_gives_no_features_is_refused_before_any_work() -> None:
    for overrides, message in (
        (["model=cnn", "model.backbone.input_px=4"], "model.backbone cannot take an input of 4 px"),
        (
            ["model=resnet", "model.backbone.strides.conv1=0"],
            "strides must be >= 1 and of layers with a stride, but got conv1: 0",
        ),
        (
            ["model=resnet", "+model.backbone.strides.bn1=3"],
            "strides must be >= 1 and of layers with a stride, but got bn1: 3",
        ),
        (["model=customvit", "model.backbone.drop_path=1.5"], r"drop_path must be in \[0, 1\), but got 1.5"),
        (["model=nin", "model.backbone.widths=[0,1,2]"], "widths must be three > 0"),
        (["model=cnn", "model.backbone.widths=[1000000000]"], "widths must be at most 65536, but got 1000000000"),
        (["model=cnn", "model.backbone.widths=[60000,60000,60000]"], r"parameters of 648.0 GB, more than the \d+"),
        (["model=customvit", "model.backbone.depth=1000000"], "depth must be at most 1000, but got 1000000"),
        (["model=efficientnet", "+model.backbone.options.depth_multiplier=2"], "timm cannot build efficientnet_b0"),
        (["model=densenet", "model.backbone.options.growth_rate=0"], "cannot take an input of 40 px"),
    ):
        with pytest.raises(ValueError, match=message):
            assemble(compose_config(overrides))


@pytest.mark.long
def test_every_model_at_its_own_side_gives_its_features() -> None:
    for name in MODELS:
        check_shapes(_assemble(name).model.on_meta())


def _timm(architecture: str, strides: dict[str, int], removed: list[str] | None = None) -> ModelSpec:
    arguments = {"architecture": architecture, "input_px": 40, "pretrained_img_size": None, "pooling": "own"}
    arguments |= {
        "options": {},
        "strides": strides,
        "removed_layers": removed or [],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    return ModelSpec("mine", 40, TimmBackbone, arguments, None, f"{architecture} {strides} {removed}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("architecture", "strides", "removed"),
    [
        ("resnet10t", {"conv1.0": 1, "layer4.0.conv1": 1}, ["layer4.0.downsample.0"]),
        ("efficientnet_b0", {"conv_stem": 1, "blocks.5.0.conv_dw": 1}, []),
        ("regnetx_002", {"stem.conv": 1, "s4.b1.conv2.conv": 1, "s4.b1.downsample.conv": 1}, []),
    ],
)
def test_a_small_map_is_answered_with_one_edit(
    architecture: str, strides: dict[str, int], removed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    _checked_backbone(_timm(architecture, {}))
    [record] = caplog.records
    assert record.getMessage().startswith(
        "model=mine is left with a map of 2x2 at 40 px; for a map of 5x5 write into conf/model/mine.yaml, below "
        f"backbone: strides: {str(strides).replace(chr(39), '')} and removed_layers: [{', '.join(removed)}] "
        f"(the layers of {architecture} that shrink it are "
    )
    caplog.clear()
    assert map_side(_checked_backbone(_timm(architecture, strides, removed))) == 5
    assert not caplog.records


@pytest.mark.parametrize("strides", [{"conv1": 1}, {"layer4.0.conv1": 1}, {"conv_stem": 1}])
def test_strides_of_another_network_are_answered_with_those_of_this_one(strides: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="model=mine: model.backbone") as caught:
        _checked_backbone(_timm("resnet10t", strides))
    assert "strides: {conv1.0: 1, layer4.0.conv1: 1} and removed_layers: [layer4.0.downsample.0]" in str(caught.value)


def test_networks_of_tokens_and_others_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert map_side(_checked_backbone(_assemble("customvit").model)) is None
    assert advice(_assemble("cnn").model) is None
    assert advice(_assemble("dinov2_s").model) is None
    assert not caplog.records
