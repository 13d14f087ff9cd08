"""How far a cell lies from others in the features of the network that tested it."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

from cellpatch.analysis.out_of_sample import OutOfSample
from cellpatch.data.store.reader import CellStore
from cellpatch.inference.restore import RestoredRun, predict_features, restore
from cellpatch.runtime.device import inference_batch_size, resolve_device
from cellpatch.runtime.progress import batch_starts

NEIGHBOURS = 10


def neighbour_distance(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Mean distance of each cell to its NEIGHBOURS nearest others, over the median of all cells; 0 for a single cell.

    Features are scaled to length 1 (Sun, Ming, Zhu and Li, 2022: deep nearest neighbours).
    """
    n = len(features)
    if n < 2:
        return np.zeros(n)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    distances, _ = NearestNeighbors(n_neighbors=min(NEIGHBOURS, n - 1), algorithm="brute").fit(unit).kneighbors()
    mean = distances.mean(axis=1)
    median = float(np.median(mean))
    return mean / median if median > 0 else np.zeros(n)


def outlier_distance(
    tested: OutOfSample, store: CellStore, rows: Int[np.ndarray, " n"], weights_file: Path | None = None
) -> Float[np.ndarray, " n"]:
    """`neighbour_distance` of each cell among those that the same network tested; `rows` are the cells in the store.

    Raises ValueError if a network cannot be restored.
    """
    distance = np.zeros(len(rows))
    for number, run in enumerate(tested.trainings):
        own = np.flatnonzero(tested.training == number)
        features = _features(restore(run.folder, weights_file), store, rows[own])
        distance[own] = neighbour_distance(features.astype(np.float64))
    return distance


def _features(run: RestoredRun, store: CellStore, cells: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    device = resolve_device("auto")
    network = run.network.to(device).eval()
    size = inference_batch_size(run.stored.record.settings.coordinates.input_px, device)
    starts = batch_starts(len(cells), size, "features")
    return np.concatenate([predict_features(network, store.crops(cells[start : start + size])) for start in starts])
