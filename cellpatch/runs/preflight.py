"""Settings that make no sense together, or not on this machine: errors before any work."""

import json
from typing import Any

import torch

from cellpatch.config.instantiate import build
from cellpatch.models.backbone import check_shapes
from cellpatch.probing.probes import Probe
from cellpatch.runtime.device import resolve_device
from cellpatch.training.adaptation import FineTuning

ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
PRECISIONS = (None, "32-true", "bf16-mixed", "16-mixed")  # weights in 32 bits: crops come as such


def check_device(trainer: dict[str, Any]) -> None:
    """Raise ValueError if a GPU is asked for and torch sees none: on the CPU it would take days."""
    if trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={trainer['accelerator']}, but torch sees no GPU here: auto takes one if any"
        )


def check_trainer(trainer: dict[str, Any]) -> None:
    """Raise ValueError for settings that make no sense, or more devices than there are."""
    for name, value, lowest in (("devices", trainer["devices"], 1), ("max_epochs", trainer["max_epochs"], 1)):
        if type(value) is not int or value < lowest:
            raise ValueError(f"trainer.{name} must be a whole number >= {lowest}, but got {value!r}")
    for name, allowed in (("accelerator", ACCELERATORS), ("precision", PRECISIONS)):
        if trainer[name] not in allowed:
            raise ValueError(f"trainer.{name} must be of {list(allowed)}, but got {trainer[name]!r}")
    if trainer["precision"] == "16-mixed" and resolve_device(trainer).type == "cpu":  # Lightning would take bf16
        raise ValueError("trainer.precision=16-mixed needs a GPU, but this trains on the CPU: bf16-mixed works here")
    if type(trainer["resume"]) is not bool:
        raise ValueError(f"trainer.resume must be true or false, but got {trainer['resume']!r}")
    if resolve_device(trainer).type == "cuda" and trainer["devices"] > torch.cuda.device_count():
        raise ValueError(f"trainer.devices={trainer['devices']}, but there are {torch.cuda.device_count()} GPUs")


def check_pair(plain: dict[str, Any], adaptation: FineTuning | Probe) -> None:
    """Raise ValueError for a way of adapting that makes no sense for the model, or does not fit its layers."""
    model, adapt = plain["model"]["name"], plain["adapt"]["name"]
    pretrained = "weights" in plain["model"]
    if adaptation.pretrained and not pretrained:
        raise ValueError(f"adapt={adapt} needs a pretrained model, but model={model} has no weights: use adapt=scratch")
    if pretrained and not adaptation.pretrained:
        raise ValueError(
            f"adapt={adapt} starts from random values, but model={model} is pretrained: leave adapt out "
            "(linear_probe), or use another"
        )
    key = json.dumps([plain["model"]["backbone"], plain["adapt"]], sort_keys=True)
    if key not in _fitting:
        with torch.device("meta"):
            backbone = build(plain["model"]["backbone"])
            check_shapes(backbone)
            if isinstance(adaptation, FineTuning):
                adaptation.prepare(backbone)
        _fitting.add(key)
    if isinstance(adaptation, FineTuning):
        return
    if plain["optics"]["train"] is not None:
        raise ValueError(
            f"optics.train={plain['optics']['train']} needs gradients, but adapt={adapt} trains on features"
        )
    if adaptation.views and not plain["augment"].get("_target_", "").endswith(".DeviceAugment"):
        raise ValueError(f"adapt.views={adaptation.views} needs augment=device")


_fitting: set[str] = set()  # backbones and ways of adapting them that fit; building one takes half a second
