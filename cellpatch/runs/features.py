"""The cached features that an experiment's probe is fitted to."""

from pathlib import Path

from cellpatch.data.dataset import CellDataset
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.fit import CachedFeatures
from cellpatch.runs.experiment import Experiment


def cached_features(experiment: Experiment, weights: str | None, dataset: CellDataset) -> CachedFeatures:
    """Features of the dataset's cells by the experiment's backbone, in the folder that its config names."""
    loading = experiment.data.loading
    cache = FeatureCache(
        Path(loading.embeddings_dir),
        loading.embeddings_gib,
        experiment.inference_batch,
        experiment.trainer.device,
        loading.embedding_dtype,
    )
    path = experiment.path(dataset.store.geometry)
    return CachedFeatures(experiment.model, weights, dataset, path, cache, experiment.data.name)
