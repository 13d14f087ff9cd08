"""From crops to logits: how a network is built from its config, with published weights, or from a stored run."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from omegaconf import OmegaConf
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cellpatch.adapt import Schedule
from cellpatch.conditions import CLEAN, Condition
from cellpatch.config import build, check, without
from cellpatch.data.store import Geometry
from cellpatch.models.backbone import Backbone, load_trained
from cellpatch.optics import Optics, to_pixels
from cellpatch.probe import Probe
from cellpatch.record import check_files, read_record


class Network(nn.Module):
    """From stored crops to logits: pixels, optics, backbone, head."""

    def __init__(self, backbone: Backbone, optics: Optics, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.optics = optics
        self.head = head

    def features(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b features"]:
        """Features of stored crops."""
        return self.backbone(self.optics(to_pixels(self.optics.trim(crops))))

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        """Logits of stored crops."""
        return self.head(self.features(crops))


def open_backbone(model: dict[str, Any], fingerprint: str | None) -> Backbone:
    """Build the backbone of a model config, with its published weights if it names any.

    Raises ValueError if those are not the weights of `fingerprint`: a file may be replaced while a run waits.
    """
    backbone: Backbone = build(model["backbone"])
    loaded = build(model["weights"]).load(backbone) if "weights" in model else None
    if loaded != fingerprint:
        raise ValueError(f"the published weights of {model['name']} are now {loaded}, not {fingerprint} as before")
    return backbone


def weights_fingerprint(model: dict[str, Any]) -> str | None:
    """Fingerprint of a model's published weights, None if it has none; read once in a process to know it.

    No network is built for it in memory. Raises ValueError if they are absent or do not fit.
    """
    if "weights" not in model:
        return None
    from cellpatch.models.weights import Weights, fingerprint  # timm is a second to import, and others do without

    weights: Weights = build(model["weights"])
    stat = weights.locate().stat()
    key = json.dumps([model["backbone"], model["weights"], stat.st_size, stat.st_mtime_ns], sort_keys=True)
    if key not in _fingerprints:
        with torch.device("meta"):
            backbone = build(model["backbone"])
        _fingerprints[key] = fingerprint(weights.read(backbone))
    return _fingerprints[key]


_fingerprints: dict[str, str] = {}


def new_network(
    plain: dict[str, Any],
    schedule: Schedule,
    fingerprint: str | None,
    geometry: Geometry,
    n_classes: int,
) -> tuple[Network, dict[str, float]]:
    """A network before training, and the trained backbone parameters' shares of the learning rate."""
    backbone = open_backbone(plain["model"], fingerprint)
    rates = schedule.prepare(backbone)
    head = nn.Linear(backbone.num_features, n_classes)
    network = Network(backbone, optics_of(plain, geometry), head)
    # Two CPU cores, batches of 64, this project's eight networks: up to 1.9 times as many cells/s as channels first.
    return network.to(memory_format=torch.channels_last), rates


def optics_of(plain: dict[str, Any], geometry: Geometry, condition: Condition = CLEAN) -> Optics:
    """The optics of a config under one condition; raises ValueError for a blur that crop and margin cannot hold."""
    input_px = plain["model"]["backbone"]["input_px"]
    via_px, resize = plain["optics"]["via_px"], plain["optics"]["resize"]
    return Optics(geometry.crop_px, geometry.margin_px, input_px, via_px, condition, resize)


@contextmanager
def inferring() -> Iterator[None]:
    """No gradients, and convolutions in 32 bits on a GPU too: cuDNN's default of 19 moves features by 1e-3."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def device_of(trainer: dict[str, Any]) -> torch.device:
    """The device that Lightning's Trainer would take for the given settings, of those that cellpatch knows."""
    on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def geometry_of(record: dict[str, Any]) -> Geometry:
    """The geometry of the crops that a stored run takes; raises ValueError if an earlier version did not state it."""
    if "geometry" not in record["data"]:
        raise ValueError(f"{record['run']}: its record does not state the crops' geometry: train it with this version")
    return Geometry(**record["data"]["geometry"])


def write_weights(file: Path, state: Mapping[str, Tensor]) -> None:
    """The trained tensors of backbone and head as safetensors: what is frozen was published, optics are computed."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    file.write_bytes(save(tensors))  # not save_file: without room it raises no OSError


def restore(run: Path, weights_file: Path | None = None) -> Network:
    """The network of a stored run, as it was evaluated, for crops of the geometry that the record states.

    `weights_file` is where the published weights are now, if elsewhere than then. Raises ValueError if they are
    absent or others than the run's, if its files are not as the record says, or its config builds what is not ours.
    """
    check_files(run)
    record = read_record(run)
    config = record["config"] | {"augment": {}, "weights_dir": None}  # neither is part of what was trained
    plain, n_classes = check(OmegaConf.create(config)), len(record["classes"])
    geometry = geometry_of(record)
    if weights_file is not None:
        if "weights" not in plain["model"]:
            raise ValueError(f"{run}: was trained from scratch: it has no published weights to look for")
        plain["model"]["weights"]["file"] = str(weights_file)
    adaptation: Schedule | Probe = build(without(plain["adapt"], "name"))
    state = load_file(run / "weights.safetensors")
    if isinstance(adaptation, Schedule):
        network, _ = new_network(plain, adaptation, record["weights"], geometry, n_classes)
        try:
            load_trained(network, state)
        except ValueError as error:
            raise ValueError(f"{run}: weights.safetensors {error}") from error
    else:
        backbone = open_backbone(plain["model"], record["weights"])
        head = adaptation.head({name.removeprefix("head."): t for name, t in state.items()}, record["probe"], n_classes)
        network = Network(backbone, optics_of(plain, geometry), head).to(memory_format=torch.channels_last)
    return network.eval()
