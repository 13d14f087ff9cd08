"""Pairs of settings that do not fit together are rejected before training."""

from dataclasses import dataclass, field
from functools import lru_cache

from cellpatch.data.augment import DeviceAugment
from cellpatch.models.backbone import check_shapes
from cellpatch.models.spec import ModelSpec
from cellpatch.pretraining.methods import Pretraining
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment
from cellpatch.training.adaptation import FineTuning


def check_pair(experiment: Experiment) -> None:
    """Raise ValueError for an adaptation that does not fit the model or its layers."""
    model, adaptation = experiment.model, experiment.adaptation
    adapt = experiment.settings.adapt.name
    if adaptation.pretrained and not model.pretrained:
        raise ValueError(
            f"adapt={adapt} needs a pretrained model, but model={model.name} has no weights: use adapt=scratch"
        )
    if model.pretrained and not adaptation.pretrained:
        raise ValueError(
            f"adapt={adapt} starts from random values, but model={model.name} is pretrained: leave adapt out "
            "(linear_probe), or use another"
        )
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
    backbone = pair.model.on_meta()
    check_shapes(backbone)
    if isinstance(pair.adaptation, Pretraining):
        pair.adaptation.check_backbone(backbone)
    if isinstance(pair.adaptation, FineTuning):
        pair.adaptation.freeze_and_scale_lr(backbone)
