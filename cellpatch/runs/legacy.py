"""Records that cellpatch 0.3.0 wrote: their components' import paths, their keys, their identity.

0.3.0 stored the import path of every component (`_target_`) and hashed it into a run's identity. The tables here
translate them to today's names and back; nothing else needs to know of them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

VERSION = "0.3.0"
# Today's name at each place of a config, and what 0.3.0 called it.
_TARGETS = {
    ("model.backbone", "cnn"): "cellpatch.models.cnn.CNN",
    ("model.backbone", "nin"): "cellpatch.models.nin.NIN",
    ("model.backbone", "customvit"): "cellpatch.models.customvit.CustomViT",
    ("model.backbone", "timm"): "cellpatch.models.timm.TimmBackbone",
    ("model.backbone", "ctranspath"): "cellpatch.models.ctranspath.CTransPath",
    ("model.weights", "published"): "cellpatch.models.weights.Weights",
    ("data", "folder"): "cellpatch.data.folder.Folder",
    ("data", "table"): "cellpatch.data.table.Table",
    ("data", "points"): "cellpatch.data.points.Points",
    ("data", "npz"): "cellpatch.data.npz.Npz",
    ("data", "synthetic"): "cellpatch.data.synthetic.source.Synthetic",
    ("data.split", "by_specimen"): "cellpatch.data.splits.BySpecimen",
    ("data.loading", "resident"): "cellpatch.data.loading.Loading",
    ("data.costs", "by_class"): "cellpatch.evaluate.Costs",
    ("adapt", "scratch"): "cellpatch.adapt.Scratch",
    ("adapt", "ft_last"): "cellpatch.adapt.LastLayer",
    ("adapt", "ft_all"): "cellpatch.adapt.AllLayers",
    ("adapt", "lora"): "cellpatch.adapt.Lora",
    ("adapt", "linear_probe"): "cellpatch.probe.LinearProbe",
    ("adapt", "knn"): "cellpatch.probe.Neighbours",
    ("adapt", "prototypes"): "cellpatch.probe.Prototypes",
    ("augment", "device"): "cellpatch.augment.DeviceAugment",
    ("augment", "albumentations"): "cellpatch.augment.AlbumentationsAugment",
    ("optics", "blur"): "cellpatch.conditions.Conditions",
    ("trainer", "lightning"): "pytorch_lightning.Trainer",
    ("logger", "wandb"): "pytorch_lightning.loggers.WandbLogger",
}
_NAMES = {(place, target): name for (place, name), target in _TARGETS.items()}
# Keys that have another name today.
_KEYS = {
    "model.backbone": {"pretrained_img_size": "published_px", "removed_layers": "dropped"},
    "adapt": {"l2_grid": "strengths", "augmented_copies": "views"},
}
_NOT_TRAINING = {
    "accelerator",
    "devices",
    "resume",
    "num_nodes",
    "strategy",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
}


def to_current(config: Mapping[str, JsonValue], path: str = "") -> dict[str, JsonValue]:
    """A config that 0.3.0 stored, under today's names.

    A component that 0.3.0 did not have keeps the last part of its import path: only building it is rejected.
    """
    old_keys = {old: new for new, old in _KEYS.get(path, {}).items()}
    current: dict[str, JsonValue] = {}
    for key, value in config.items():
        if key == "_target_":
            current["component"] = _name_of(path, value)
        elif isinstance(value, dict):
            current[old_keys.get(key, key)] = to_current(value, f"{path}.{key}" if path else key)
        else:
            current[old_keys.get(key, key)] = value
    return current


def from_current(config: Mapping[str, JsonValue], path: str = "") -> dict[str, Any]:
    """A config of today as 0.3.0 would have stored it."""
    new_keys = _KEYS.get(path, {})
    stored: dict[str, Any] = {}
    for key, value in config.items():
        if key == "component":
            stored["_target_"] = _TARGETS.get((path, str(value)), value)
        elif isinstance(value, dict):
            stored[new_keys.get(key, key)] = from_current(value, f"{path}.{key}" if path else key)
        else:
            stored[new_keys.get(key, key)] = value
    return stored


def _name_of(path: str, target: JsonValue) -> str:
    return _NAMES.get((path, str(target)), str(target).rpartition(".")[2])


def identity(config: Mapping[str, Any], data: str, weights: str | None, version: str = VERSION) -> str:
    """The identity that 0.3.0 gave to a run with a config in its own layout and these fingerprints."""
    probe = "views" in config["adapt"]
    content = {
        "version": version,
        "data": data,
        "weights": weights,
        "split": config["data"]["split"],
        "trainer": None if probe else {k: v for k, v in config["trainer"].items() if k not in _NOT_TRAINING},
        "augment": config["augment"] if not probe or config["adapt"]["views"] else None,
        "model": {k: v for k, v in config["model"].items() if k not in ("weights", "recipe")},
        "optics": {key: config["optics"][key] for key in ("via_px", "resize", "train")},
        **{key: config[key] for key in ("adapt", "flag_limit", "seed")},
    }
    if config["optics"]["train"] is not None:
        content["optics"] |= {"unit": config["optics"]["unit"], "train_kind": sorted(config["optics"]["train_kind"])}
    if probe:
        content["embedding_dtype"] = config["data"]["loading"]["embedding_dtype"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
