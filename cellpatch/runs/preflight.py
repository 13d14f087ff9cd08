"""Pairs of settings that do not fit together are rejected before training."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache

from cellpatch.data.augment import DeviceAugment
from cellpatch.models.backbone import Backbone, check_shapes, check_size
from cellpatch.models.spec import ModelSpec
from cellpatch.pretraining.methods import Pretraining
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment
from cellpatch.training.adaptation import FineTuning

log = logging.getLogger(__name__)


def check_pair(experiment: Experiment) -> None:
    """Raise ValueError for an adaptation that does not fit the model or its layers."""
    model, adaptation = experiment.model, experiment.adaptation
    adapt = experiment.settings.adapt.name
    if adaptation.pretrained and not model.has_features:
        raise ValueError(
            f"adapt={adapt} needs a pretrained model, but model={model.name} has no weights: use adapt=scratch"
        )
    if model.has_features and not adaptation.pretrained:
        raise ValueError(
            f"adapt={adapt} starts from random values, but model={model.name} has features already: leave adapt out "
            "(linear_probe), or use another"
        )
    if model.backbone_class.fixed and isinstance(adaptation, FineTuning):
        raise ValueError(f"adapt={adapt} trains weights, but model={model.name} has none: use adapt=linear_probe")
    if experiment.teacher is not None:
        _check_teacher(experiment.teacher)
    _check_layers(_Pair(f"{model.key} {adaptation}", model, adaptation))
    if isinstance(adaptation, FineTuning):
        return
    if experiment.optics.train is not None:
        raise ValueError(
            f"optics.train={experiment.optics.train} needs gradients, but adapt={adapt} trains on features"
        )
    if not adaptation.augmented_copies:
        return
    if not isinstance(experiment.augment, DeviceAugment):
        raise ValueError(f"adapt.augmented_copies={adaptation.augmented_copies} needs augment=device")
    if set(experiment.augment.scale) != {1.0}:
        raise ValueError(f"augment.scale={experiment.augment.scale} needs gradients, but adapt={adapt} has copies")


@dataclass(frozen=True)
class _Pair:
    key: str
    model: ModelSpec = field(compare=False)
    adaptation: FineTuning | Probe = field(compare=False)


@lru_cache(maxsize=16)  # as below
def _check_teacher(teacher: ModelSpec) -> None:
    try:
        check_shapes(teacher.on_meta())
    except ValueError as error:
        raise ValueError(f"adapt.teacher={teacher.name}, adapt.teacher_px={teacher.input_px}: {error}") from error


@lru_cache(maxsize=64)  # building a backbone takes half a second, and every job of a grid asks
def _check_layers(pair: _Pair) -> None:
    backbone = _checked_backbone(pair.model)
    check_size(backbone)
    if isinstance(pair.adaptation, Pretraining):
        pair.adaptation.check_backbone(backbone)
    if isinstance(pair.adaptation, FineTuning):
        pair.adaptation.freeze_and_scale_lr(backbone)


def _checked_backbone(model: ModelSpec) -> Backbone:
    """The backbone without memory; of a network of timm, an error and a warning name the strides to give up."""
    if "architecture" not in model.arguments:
        backbone = model.on_meta()
        check_shapes(backbone)
        return backbone
    from cellpatch.models.map_size import SMALL, advice, map_side  # timm takes seconds to import, others do without

    try:
        backbone = model.on_meta()
        check_shapes(backbone)
    except ValueError as error:
        better = advice(model)
        raise ValueError(f"model={model.name}: {error}" + (f"; {better}" if better else "")) from error
    side = map_side(backbone)
    if side is not None and side <= SMALL:
        better = "a larger model.backbone.input_px leaves a larger one" if model.pretrained else advice(model)
        log.warning("model=%s is left with a map of %dx%d at %d px; %s", model.name, side, side, model.input_px, better)
    return backbone
