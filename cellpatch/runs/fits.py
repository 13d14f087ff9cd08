"""The fit that an experiment asks for, on the cells of a dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cellpatch.data.augment import DeviceAugment
from cellpatch.data.dataset import CellDataset
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.fit import CachedFeatures, ProbeFit
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment

if TYPE_CHECKING:
    from torch import Tensor

    from cellpatch.training.fit import GradientFit


def gradient_fit(
    experiment: Experiment,
    weights: str | None,
    dataset: CellDataset,
    start: Mapping[str, "Tensor"] | None = None,
) -> "GradientFit":
    """A training by gradients; `weights` is the fingerprint of the published weights, `start` as of `GradientFit`."""
    from cellpatch.training.fit import GradientFit  # Lightning takes seconds to import, probes do without

    assert not isinstance(experiment.adaptation, Probe)
    return GradientFit(
        model=experiment.model,
        weights=weights,
        adaptation=experiment.adaptation,
        dataset=dataset,
        path=experiment.path(dataset.store.geometry),
        blur=experiment.optics.trained(dataset.store.geometry.field_um),
        augment=experiment.augment,
        loading=experiment.data.loading,
        trainer=experiment.trainer,
        inference_batch=experiment.inference_batch,
        seed=experiment.seed,
        start=start,
    )


def probe_fit(experiment: Experiment, weights: str | None, dataset: CellDataset) -> ProbeFit:
    """A probe on cached features; `weights` is the fingerprint of the published weights."""
    assert isinstance(experiment.adaptation, Probe)
    augment = experiment.augment if isinstance(experiment.augment, DeviceAugment) else None
    return ProbeFit(experiment.adaptation, cached_features(experiment, weights, dataset), augment)


def cached_features(experiment: Experiment, weights: str | None, dataset: CellDataset) -> CachedFeatures:
    """Features of the dataset's cells by the experiment's backbone, in the folder that its config names."""
    loading = experiment.data.loading
    cache = FeatureCache(
        Path(loading.embeddings_dir),
        loading.embeddings_gib,
        experiment.inference_batch,
        experiment.trainer.device,
        loading.embedding_dtype,
        processes=experiment.trainer.devices if experiment.trainer.device.type == "cpu" else 1,
    )
    path = experiment.path(dataset.store.geometry)
    return CachedFeatures(experiment.model, weights, dataset, path, cache, experiment.data.name)
