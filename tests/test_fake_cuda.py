"""Everything that users run on a GPU, on one that is not there: `pytest --collect-only -q tests/test_fake_cuda.py`.

The test of a training step and of a forward pass allows no value that Python reads from the device, and no copy from it:
each would make the processor wait. torch's backward needs a driver: gradients are set by hand.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from conftest import ROOT, unaudited_split
from fake_gpu import GPU, fake_gpu
from small_models import fine_tuning, stand_in
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.augment import DeviceAugment
from cellpatch.data.datamodule import Batches, CellData, SplitPart
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.data.store.reader import CellStore, Geometry
from cellpatch.inference.latency import measure_latency
from cellpatch.inference.restore import predict_features, predict_probabilities
from cellpatch.models.backbone import Normalise, load_trained
from cellpatch.models.cnn import CNN
from cellpatch.models.network import Network, assemble_network
from cellpatch.models.predictor import make_predict_fn
from cellpatch.models.spec import ModelSpec
from cellpatch.optics import faults
from cellpatch.optics.conditions import CLEAN, FAULTS, KINDS, Condition, OpticsSettings, Resize
from cellpatch.optics.operator import OpticalPath, Optics, RandomOptics, to_pixels
from cellpatch.optics.scaling import scaled_paths
from cellpatch.pretraining.objectives import FeatureRegression, MaskedImageModel
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.feature_key import FeatureRequest, View
from cellpatch.probing.fit import CachedFeatures
from cellpatch.probing.probes import Probe
from cellpatch.runtime.device import resolve_device
from cellpatch.training.adaptation import AllLayers, FineTuning, LastLayer, Lora, Scratch
from cellpatch.training.lightning_module import EMA, Classifier, TrainingInput
from cellpatch.training.objective import Objective
from cellpatch.training.optimizers import OptimizerName, cosine_schedule, make_optimizer

SIDE, MARGIN, CELLS = 48, 8, 6
COUNTS = [4, 2, 6]
MODELS = sorted(file.stem for file in (ROOT / "conf" / "model").glob("*.yaml"))
PROBES = sorted(
    file.stem
    for file in (ROOT / "conf" / "adapt").glob("*.yaml")
    if "cellpatch.probing" in file.read_text(encoding="utf-8")
)
BALANCES = get_args(get_type_hints(Objective)["balance"])
SCHEDULE = fine_tuning(lr=1e-2, weight_decay=0.05, warmup=0.1, batch_size=4, average_over=10)
PATH = OpticalPath(SIDE - 2 * MARGIN, MARGIN, 40)

pytestmark = pytest.mark.filterwarnings("ignore:.*the `self.trainer` reference is not registered")


def crops_of(path: OpticalPath = PATH, cells: int = CELLS) -> Tensor:
    """Stored crops on the GPU."""
    side = path.side_px - 2 * path.mirrored_px
    return torch.zeros(cells, side, side, 3, dtype=torch.uint8, device=GPU)


def bf16() -> torch.autocast:
    return torch.autocast("cuda", torch.bfloat16)


def small_network(backbone: Any = None, path: OpticalPath = PATH) -> Network:
    backbone = CNN(40, [8, 8, 8, 8], [0.5] * 3, [0.2] * 3) if backbone is None else backbone
    return assemble_network(backbone, path.under(), nn.Linear(backbone.num_features, len(COUNTS)))


def classifier(network: Network, tuning: FineTuning, inputs: TrainingInput | None = None) -> Classifier:
    rates = tuning.freeze_and_scale_lr(network.backbone)
    return Classifier(network, COUNTS, tuning, rates, inputs or TrainingInput(None, network.optics))


def loss_of_step(module: Classifier) -> Tensor:
    """The loss of a training step on the GPU, in bfloat16 as there."""
    labels = torch.zeros(CELLS, dtype=torch.int64, device=GPU)
    module.train()
    with bf16():
        return module.training_step((crops_of(), labels, labels), 0)


# Augmentation and optics

AUGMENTS = {
    "stain": {},
    "shift": {"shift_px": 3},
    "erasing": {"erasing": 0.5},
    "scale": {"scale": [0.7, 1.4]},
}


def augment_of(**changes: Any) -> DeviceAugment:
    plain: dict[str, Any] = {"stain_gain": 0.1, "stain_offset": 0.1, "shift_px": 0, "erasing": 0.0, "scale": [1.0, 1.0]}
    return DeviceAugment(**plain | changes)


def optics_of(augment: DeviceAugment, blur: Sequence[Condition] = (CLEAN,)) -> Optics | RandomOptics:
    several = [path.under(condition) for path in scaled_paths(PATH, *augment.scale) for condition in blur]
    return RandomOptics(several) if len(several) > 1 else several[0]


@pytest.mark.parametrize("settings", AUGMENTS.values(), ids=AUGMENTS.keys())
def test_augment(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    augment = augment_of(**settings)
    optics = optics_of(augment)
    with fake_gpu(monkeypatch) as transfers:
        x = optics.to(GPU)(augment.to(GPU)(crops_of(), optics.needed_px))
    assert (x.device, x.shape, transfers.seen) == (GPU, (CELLS, 3, 40, 40), [])


WAYS = {"via": {"via_px": 40, "input_px": 60}, "crop": {"input_px": SIDE - 2 * MARGIN}, "mirrored": {"mirrored_px": 2}}
WAYS |= {name: {"resize": name} for name in get_args(Resize)}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("kind", [*KINDS, *FAULTS])
def test_optics(kind: str, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path = OpticalPath(**{"crop_px": SIDE - 2 * MARGIN, "margin_px": MARGIN, "input_px": 40} | way)
    optics = path.under(Condition(kind, 0.0 if kind == "none" else 1.5))
    with fake_gpu(monkeypatch) as transfers, bf16():
        monkeypatch.setattr(faults, "jpeg_round_trips", lambda images, quality: images)  # the codec reads values
        x = optics.to(GPU)(to_pixels(optics.trim(crops_of(path))))
    assert (x.device, x.dtype, x.shape[2]) == (GPU, torch.float32, path.input_px)
    assert transfers.seen == (["copy cuda to cpu", "copy cpu to cuda"] if kind == "jpeg" else [])


@pytest.mark.parametrize("unit", ["px40", "um"])
def test_random_optics(unit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = OpticsSettings("none", 0.0, {}, unit, None, "bilinear", [0, 1.5], ["pre", "post"])
    optics = RandomOptics([PATH.under(condition) for condition in settings.trained(field_um=20.0)])
    with fake_gpu(monkeypatch) as transfers, bf16():
        x = optics.to(GPU)(to_pixels(optics.trim(crops_of())))
    assert (x.device, x.dtype, transfers.seen) == (GPU, torch.float32, [])


# Models


def model_of(name: str) -> ModelSpec:
    return assemble(compose_config([f"model={name}"])).model


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.long), "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = stand_in(model_of(name))
    path = OpticalPath(SIDE - 2 * MARGIN, MARGIN, backbone.input_px)
    network = small_network(backbone, path)
    for train in (False, True):
        with fake_gpu(monkeypatch) as transfers, torch.autocast("cuda", torch.bfloat16, precision == "bfloat16"):
            logits = network.to(GPU).train(train)(crops_of(path))
        assert (logits.device, str(logits.dtype)) == (GPU, f"torch.{precision}")
        assert transfers.seen == []


def ways_of_adapting(name: str) -> dict[str, FineTuning]:
    model = assemble(compose_config([f"model={name}"]))
    if not model.model.pretrained:
        return {"scratch": Scratch(**SCHEDULE)}
    config: Any = model.settings.config
    lora = Lora(**SCHEDULE, rank=2, alpha=4, dropout=0.1, targets=config["model"]["recipe"]["lora_targets"])
    last, whole = LastLayer(**SCHEDULE, block_rate=0.1), AllLayers(**SCHEDULE, layer_decay=0.5)
    return {"ft_last": last, "ft_all": whole, "lora": lora}


TRAINED = [name for name in MODELS if name != "colour"]  # it has nothing to train


@pytest.mark.long
@pytest.mark.parametrize("name", TRAINED)
def test_training_step_of_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for tuning in ways_of_adapting(name).values():
        backbone = stand_in(model_of(name))
        module = classifier(small_network(backbone, OpticalPath(SIDE - 2 * MARGIN, MARGIN, backbone.input_px)), tuning)
        with fake_gpu(monkeypatch) as transfers:
            loss = loss_of_step(module.to(GPU))
        assert (loss.device, loss.shape, transfers.seen) == (GPU, (), [])


# Training

OBJECTIVES: dict[str, dict[str, Any]] = {balance: {"balance": balance} for balance in BALANCES}
OBJECTIVES |= {
    "label_smoothing": {"label_smoothing": 0.1},
    "focal": {"focal_gamma": 2.0},
    "focal_weighted": {"focal_gamma": 2.0, "balance": "class_weights"},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "mixup_and_cutmix": {"mixup": 0.2, "cutmix": 1.0, "balance": "adjusted_loss"},
}
INPUTS = {"clean": [CLEAN], "blurred": [Condition("pre", 1.0), Condition("post", 1.0)]}


@pytest.mark.parametrize("settings", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_training_step(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = classifier(small_network(), Scratch(**SCHEDULE | settings))
    with fake_gpu(monkeypatch) as transfers:
        loss = loss_of_step(module.to(GPU))
    assert (loss.device, loss.shape, transfers.seen) == (GPU, (), [])


@pytest.mark.parametrize("blur", INPUTS.values(), ids=INPUTS.keys())
@pytest.mark.parametrize("settings", AUGMENTS.values(), ids=AUGMENTS.keys())
def test_training_step_of_inputs(
    settings: dict[str, Any], blur: list[Condition], monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = augment_of(**settings)
    module = classifier(small_network(), Scratch(**SCHEDULE), TrainingInput(augment, optics_of(augment, blur)))
    with fake_gpu(monkeypatch) as transfers:
        loss = loss_of_step(module.to(GPU))
    assert (loss.device, transfers.seen) == (GPU, [])


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_update(name: OptimizerName, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimiser, its schedule, clipped gradients and the moving average."""
    module = classifier(small_network(), Scratch(**SCHEDULE | {"optimizer": name}))
    with fake_gpu(monkeypatch) as transfers:
        network = module.to(GPU).network
        optimizer = make_optimizer(network, name, 0.01, 0.05)
        schedule = cosine_schedule(optimizer, 4, 0.5)
        average = EMA(network, 0.9)
        for _ in range(2):
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update()
    assert {tensor.device for tensor in average.network.state_dict().values()} == {GPU}
    assert transfers.seen == []


@pytest.mark.parametrize("balance", BALANCES)
def test_validation(balance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchmetrics leaves out labels that do not count: it asks how many are left. That happens at validations alone."""
    module = classifier(small_network(), Scratch(**SCHEDULE | {"balance": balance}))
    with fake_gpu(monkeypatch, answering=True) as transfers:
        module.to(GPU)
        module.average = EMA(module.network, 0.9)
        labels = torch.zeros(CELLS, dtype=torch.int64, device=GPU)
        with bf16():
            module.validation_step((crops_of(), labels, labels), 0)
        scores = module.val_f1.compute(), module.val_accuracy.compute()
        module.loss.fold_into(module.network.head)
    assert {score.device for score in scores} == {GPU}
    assert Counter(transfers.seen) == {"read a mask": 4, "read aten.bincount.default": 1}


def test_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored goes to the CPU, and is loaded from there."""
    module = classifier(small_network(), Scratch(**SCHEDULE))
    with fake_gpu(monkeypatch):
        module.to(GPU)
        module.average = EMA(module.network, 0.9)
        checkpoint: dict[str, Any] = {}
        module.on_save_checkpoint(checkpoint)
        stored = {name: value.cpu() for name, value in checkpoint["average"].items()}
        module.average.load(stored)
        load_trained(module.network, stored)
        loss = loss_of_step(module)
    assert len(checkpoint["random"]) == 2
    assert loss.device == GPU


# Data


@pytest.fixture
def dataset(store_of: Callable[..., Path]) -> CellDataset:
    store = CellStore(store_of(n=30, side=SIDE))
    cells = np.arange(30)
    return CellDataset(store, ["a", "b", "c"], cells % 3, unaudited_split(cells[:12], cells[12:20], cells[20:]))


def test_resident_batches(dataset: CellDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = Loading("stores", 1.0, 0, "embeddings", 1.0, "float32", None)
    data = CellData(dataset, Batches(4, 2, balanced=True), 4, 0, loading)
    with fake_gpu(monkeypatch) as transfers:
        device = data._resident_device(GPU)
        part = SplitPart(dataset.store, dataset.split.train, dataset.labels[dataset.split.train], device)
        moved = len(transfers.seen)
        batch = part[np.array([0, 3, 5])]
    assert [each.device for each in batch] == [GPU] * 3
    assert transfers.seen[moved:] == [], "a batch is cut on the device"


# Evaluation and inference


def test_evaluation(dataset: CellDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network()
    conditions = [CLEAN, *(Condition(kind, 1.0) for kind in [*KINDS, *FAULTS] if kind != "none")]
    monkeypatch.setattr(faults, "jpeg_round_trips", lambda images, quality: images)
    with fake_gpu(monkeypatch) as transfers:
        predict = make_predict_fn(network, dataset.store, PATH, GPU, 4)
        predicted = predict(conditions, dataset.split.test)
    assert {each.shape for each in predicted.values()} == {(10, 3)}
    assert set(transfers.seen) == {"copy cpu to cuda", "copy cuda to cpu"}


def test_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    """New cells, and the features that separability, embeddings and `load_run(...).features` take."""
    network = small_network().eval()
    crops = np.zeros((CELLS, SIDE, SIDE, 3), np.uint8)
    with fake_gpu(monkeypatch):
        network.to(resolve_device("auto"))
        probabilities, features = predict_probabilities(network, crops), predict_features(network, crops)
    assert (probabilities.shape, features.shape) == ((CELLS, 3), (CELLS, 8))


def test_export_takes_the_network_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX for QuPath is written on the CPU."""
    network = small_network().eval()
    with fake_gpu(monkeypatch):
        logits = network.to(GPU).cpu()(crops_of().cpu())
    assert logits.device.type == "cpu"


def test_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network().eval()
    with fake_gpu(monkeypatch):
        card = measure_latency(network.to(GPU), Geometry(PATH.crop_px, MARGIN), ["eager"], 0.1)
    assert card.device == "cuda:0"
    assert [timing.ms for timing in card.engines["eager"]] == [500.0]


# Features and probes


@pytest.mark.parametrize("view", [None, 0], ids=["stored", "augmented"])
def test_embeddings(view: int | None, dataset: CellDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path / "embeddings", 1.0, 4, GPU)
    cells = np.arange(len(dataset.store))
    copy = None if view is None else View(augment_of(erasing=0.5), view)
    network = small_network()
    with fake_gpu(monkeypatch):
        features = cache.features(FeatureRequest(dataset.store, cells, "cells", {}, copy), lambda: network)
    assert features.shape == (len(cells), 8)


@pytest.mark.parametrize("name", PROBES)
def test_probe(name: str, dataset: CellDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe reads values: L-BFGS its loss, and each choice its score. Its tensors stay on one device."""
    experiment = assemble(compose_config(["model=dinov2_s", f"adapt={name}"]))
    probe = experiment.adaptation
    assert isinstance(probe, Probe)
    cache = FeatureCache(tmp_path / "embeddings", 1.0, 4, GPU)
    features = CachedFeatures(experiment.model, None, dataset, PATH, cache, "cells")
    monkeypatch.setattr(CachedFeatures, "__call__", lambda self, condition, cells: np.ones((len(cells), 8), np.float32))
    with fake_gpu(monkeypatch, answering=True):
        x, labels = torch.zeros(30, 8, device=GPU), torch.zeros(30, dtype=torch.int64, device=GPU)
        fitted = probe.fit((x, labels), (x, labels), 3)
        predicted = features.make_predict_fn(fitted.head)([CLEAN], dataset.split.test)
    assert {tensor.device for tensor in fitted.head.state_dict().values()} == {GPU}
    assert predicted[CLEAN].shape == (10, 3)


# Pretraining


@pytest.mark.parametrize("method", ["mim", "distil"])
def test_pretraining_step(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = CNN(40, [8, 8, 8, 8], [0.5] * 3, [0.2] * 3)
    network = FeatureRegression(backbone, torch.zeros(CELLS, 5)) if method == "distil" else _masked(backbone)
    optics, augment = PATH.under(), augment_of()
    with fake_gpu(monkeypatch) as transfers, bf16():
        x = optics.to(GPU)(augment(crops_of(), optics.needed_px))
        loss = network.to(GPU).train()(x, torch.arange(CELLS, device=GPU))
    assert (loss.device, loss.shape, transfers.seen) == (GPU, (), [])


def _masked(backbone: CNN) -> MaskedImageModel:
    _, channels, side, _ = backbone.feature_map(torch.zeros(1, 3, 40, 40)).shape
    return MaskedImageModel(backbone, (channels, side), 0.6, 8)


# What the harness must not let pass


class Forgetful(Normalise):
    """Its mean is no buffer: it stays on the CPU."""

    def __init__(self) -> None:
        super().__init__([0.5] * 3, [0.2] * 3)
        del self.mean
        self.__dict__["mean"] = torch.zeros(3, 1, 1)


def test_a_tensor_left_on_the_cpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_network()
    network.backbone.normalise = Forgetful()
    module = classifier(network, Scratch(**SCHEDULE))
    with (
        fake_gpu(monkeypatch),
        pytest.raises(RuntimeError, match="same device, but found at least two devices, cuda:0 and cpu"),
    ):
        loss_of_step(module.to(GPU))


@pytest.mark.parametrize("read", [Tensor.item, float, bool, lambda x: x[x > 0], Tensor.nonzero])
def test_a_value_that_is_read_fails(read: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch):
        x = torch.zeros(1, device=GPU)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            read(x)


@pytest.mark.parametrize("copy", [Tensor.cpu, lambda x: x[torch.tensor([0])], lambda x: x.copy_(torch.zeros(1))])
def test_a_copy_is_seen(copy: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch) as transfers:
        copy(torch.zeros(1, device=GPU))
    assert len(transfers.seen) == 1
