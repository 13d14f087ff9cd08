"""The pretraining that an experiment asks for before it is trained with labels."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from cellpatch.data.augment import AlbumentationsAugment, DeviceAugment
from cellpatch.data.dataset import CellDataset, labelled_cells
from cellpatch.data.unlabelled import find_unlabelled
from cellpatch.models.spec import ModelSpec
from cellpatch.pretraining.code import PRETRAINING_CODE
from cellpatch.pretraining.facts import PretrainingFacts, TeacherFacts
from cellpatch.pretraining.methods import Distillation, MaskedImages
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.fits import cached_features
from cellpatch.runtime.errors import UnavailableError


def pretraining_fingerprint(experiment: Experiment) -> str | None:
    """Fingerprint of what a pretraining depends on beside its settings: its code, and the teacher; None without one.

    Raises ValueError if the teacher's weights are absent or do not fit.
    """
    if not isinstance(experiment.adaptation, MaskedImages | Distillation):
        return None
    teacher = experiment.teacher
    facts: list[JsonValue] = [PRETRAINING_CODE]
    if teacher is not None:
        facts += [teacher.key, _weights_of(teacher), experiment.data.loading.embedding_dtype]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def pretrain(experiment: Experiment, dataset: CellDataset) -> tuple[dict[str, Tensor], PretrainingFacts]:
    """The pretrained tensors of the experiment's backbone, from the cache beside that of features if they are there."""
    from cellpatch.pretraining.cache import PretrainedCache  # Lightning takes seconds to import, probes do without
    from cellpatch.pretraining.fit import PretrainingFit

    method, teacher, store = experiment.adaptation, experiment.teacher, dataset.store
    assert isinstance(method, MaskedImages | Distillation)
    classes, cells = labelled_cells(store, experiment.data.split)
    seen = find_unlabelled(cells, experiment.data.split, classes)
    loading = experiment.data.loading
    weights = None if teacher is None else _weights_of(teacher)
    fit = PretrainingFit(
        model=experiment.model,
        method=method,
        store=store,
        cells=seen.indices,
        path=experiment.path(store.geometry),
        augment=_turns_and_stains(experiment.augment),
        trainer=experiment.trainer,
        resident_gib=loading.resident_gib,
        seed=experiment.seed,
        teacher=None if teacher is None else cached_features(replace(experiment, model=teacher), weights, dataset),
    )
    folder = Path(loading.embeddings_dir)
    cache = PretrainedCache(folder.with_name(f"{folder.name}-pretrained"))
    found = cache.get(fit, f"{experiment.model.name}-{experiment.settings.adapt.label}-{experiment.data.name}")
    fingerprint = pretraining_fingerprint(experiment)
    assert fingerprint is not None
    return found.state, PretrainingFacts(
        method=method.method,
        fingerprint=fingerprint,
        entry=found.entry,
        reused=found.reused,
        cost=found.cost,
        audit=seen.audit,
        teacher=None if teacher is None or weights is None else TeacherFacts(name=teacher.name, weights=weights),
    )


def _weights_of(teacher: ModelSpec) -> str:
    """Fingerprint of the teacher's published weights."""
    try:
        weights = teacher.weights_fingerprint()
    except UnavailableError as error:
        raise UnavailableError(f"adapt.teacher={teacher.name}: {error}") from error
    assert weights is not None
    return weights


def _turns_and_stains(augment: DeviceAugment | AlbumentationsAugment | None) -> DeviceAugment | None:
    """Flips, turns, shifts and stain jitter on the device, without boxes that are erased and without other sizes."""
    if augment is None:
        return None
    return DeviceAugment(augment.stain_gain, augment.stain_offset, augment.shift_px, erasing=0.0, scale=[1.0, 1.0])
