"""From a checked config to an Experiment: the one place where components are built."""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig
from pydantic import JsonValue

from cellpatch.config.assemble_data import data_spec
from cellpatch.config.schema import models
from cellpatch.config.validate import Component, check, check_component, check_model, shipped_trainer
from cellpatch.models.spec import ModelSpec
from cellpatch.models.weights import Weights
from cellpatch.optics.conditions import OpticsSettings
from cellpatch.pretraining.methods import Distillation
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.preflight import check_pair
from cellpatch.runs.settings import Settings, parse_settings
from cellpatch.runs.tracking.settings import require_packages
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.trainer_arguments import PASSED
from cellpatch.training.trainer_settings import TrainerSettings

log = logging.getLogger(__name__)

_LARGEST, _DEEPEST = 2**16, 1000  # whole numbers among a backbone's arguments; those that count layers

_OF_PROBES = ("accelerator", "devices", "enable_progress_bar", "component")  # they count for a probe, or show only

# Settings that runs of earlier versions do not state: restoring a network needs none of them.
_OF_TRAINING: dict[str, JsonValue] = {"updates": 1, "min_epochs": 0, "validations": 1}
_OF_TRAINING |= {
    "optimizer": "adamw",
    "adamw_rate": 1.0,
    "balance": "none",
    "adjust_tau": 1.0,
    "focal_gamma": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}
_OF_EVALUATION: dict[str, JsonValue] = {"faults": {}}


def assemble(config: DictConfig) -> Experiment:
    """Check a config and build its parts; raises ValueError that names the key, before any work."""
    checked = check(config)
    values = checked.values
    recorded = json.loads(json.dumps(values))  # JSON has no numbers as keys
    adaptation = checked.build("adapt")
    experiment = Experiment(
        settings=parse_settings(recorded, "config"),
        model=_model(values["model"], checked.components.get("model.backbone"), checked.build("model.weights")),
        data=data_spec(checked),
        adaptation=adaptation,
        augment=checked.build("augment"),
        optics=checked.build("optics"),
        trainer=_trainer(values["trainer"]),
        trackers=require_packages([checked.build(f"logger.{name}") for name in values["logger"]]),
        runs_dir=Path(values["runs_dir"]),
        retry_failed=values["retry_failed"],
        dry_run=values["dry_run"],
        teacher=_teacher(adaptation, values["weights_dir"]) if isinstance(adaptation, Distillation) else None,
    )
    check_pair(experiment)
    if isinstance(adaptation, Probe):
        _report_unused(experiment.settings.adapt.name, values["trainer"])
    return experiment


def _report_unused(adapt: str, trainer: Mapping[str, Any]) -> None:
    """Name the settings of training that were changed for a probe, which has no updates."""
    shipped = shipped_trainer()
    unused = [f"trainer.{key}" for key in trainer if key not in _OF_PROBES and trainer[key] != shipped.get(key)]
    if unused:
        log.warning("%s: no effect with adapt=%s, which trains on features", ", ".join(unused), adapt)


def assemble_stored(
    settings: Settings, weights_file: Path | None
) -> tuple[ModelSpec, FineTuning | Probe, OpticsSettings]:
    """What it takes to restore a stored run's network; `weights_file` is where its published weights are now.

    Nothing is built before the whole node is checked. Raises ValueError as `assemble`, and if `weights_file` is given
    for a run without published weights.
    """
    model: Any = settings.config["model"]
    published, weights = model.get("weights"), None  # neither of a network from scratch, nor of statistics of colour
    if published is not None:
        moved = {} if weights_file is None else {"file": str(weights_file)}
        weights = check_component("model.weights", published | moved).build()
    elif weights_file is not None:
        raise ValueError("it was trained from scratch: it has no published weights to look for")
    backbone = check_component("model.backbone", model["backbone"])
    adapt: Any = settings.config["adapt"]
    if not settings.is_probe:
        adapt = _OF_TRAINING | {key: value for key, value in adapt.items() if key != "class_weights"}
    optics: Any = _OF_EVALUATION | cast(Any, settings.config["optics"])
    return (
        _model(model, backbone, weights),
        check_component("adapt", adapt).build(),
        check_component("optics", optics).build(),
    )


def _model(node: Mapping[str, Any], backbone: Component | None, weights: Weights | None) -> ModelSpec:
    if backbone is None:
        raise ValueError("model.backbone needs a _target_")
    _check_numbers("model.backbone", backbone.arguments)
    key = json.dumps(node["backbone"], sort_keys=True)
    return ModelSpec(node["name"], node["backbone"]["input_px"], backbone.target, backbone.arguments, weights, key)


def _check_numbers(path: str, value: Any) -> None:
    """Raise ValueError for a whole number that no network has: so many layers take hours and all memory to set up."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _check_numbers(f"{path}.{key}", each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_numbers(path, each)
    elif isinstance(value, int):
        largest = _DEEPEST if re.search("depth|layer", path) else _LARGEST
        if value > largest:
            raise ValueError(f"{path} must be at most {largest}, but got {value}")


def _teacher(method: Distillation, weights_dir: str | None) -> ModelSpec:
    """The pretrained model of conf/model that a distillation names, at the side of its input that it asks for."""
    allowed = [name for name, published in models().items() if published]
    if method.teacher not in allowed:
        raise ValueError(f"adapt.teacher must be one of {', '.join(allowed)}, but got {method.teacher!r}")
    checked = check_model(method.teacher, method.teacher_px, weights_dir)
    node = checked.values["model"]
    teacher = _model(node, checked.components.get("model.backbone"), checked.build("model.weights"))
    if not teacher.pretrained:
        raise ValueError(f"adapt.teacher must have published weights, but {method.teacher} has none")
    return teacher


def _trainer(node: Mapping[str, Any]) -> TrainerSettings:
    max_steps = None if node["max_steps"] == -1 else node["max_steps"]  # Lightning's own word for no limit
    for name, value in {"devices": node["devices"], "max_epochs": node["max_epochs"], "max_steps": max_steps}.items():
        if type(value) is not int and (value is not None or name == "devices"):  # Lightning takes more, such as auto
            raise ValueError(f"trainer.{name} must be a whole number >= 1, but got {value!r}")
    if type(node["resume"]) is not bool:
        raise ValueError(f"trainer.resume must be true or false, but got {node['resume']!r}")
    others = {key: value for key, value in node.items() if key in PASSED}
    return TrainerSettings(
        max_epochs=node["max_epochs"],
        max_steps=max_steps,
        accelerator=node["accelerator"],
        devices=node["devices"],
        resume=node["resume"],
        precision=node["precision"],
        enable_progress_bar=node["enable_progress_bar"],
        others=others,
    )
