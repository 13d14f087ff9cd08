"""What a run's features predict besides the class: the specimen, how far classes lie apart, and a map of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellpatch.inference.restore import predict_features, restore
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.cards import FeatureCard, FeatureMap
from cellpatch.runs.stored_run import require_store

FOLDS = 5
NEIGHBOURS = 10
PER_CLASS = 200  # cells that separability looks at
ON_MAP = 400  # cells of the map, at most
BATCH = 64


def specimen_accuracy(features: Float[np.ndarray, "n d"], specimens: Int[np.ndarray, " n"]) -> tuple[float, float]:
    """Accuracy of predicting a cell's specimen from features, and that of always naming the most frequent one.

    Logistic regression on standardised features, five-fold cross-validation over cells, of specimens with five cells
    or more. Raises ValueError if there are fewer than two.
    """
    names, counts = np.unique(specimens, return_counts=True)
    kept = np.isin(specimens, names[counts >= FOLDS])
    if len(np.unique(specimens[kept])) < 2:
        raise ValueError(
            f"two specimens with {FOLDS} test cells are needed, but cells per specimen are {counts.tolist()}"
        )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    accuracies = [
        cross_val_score(model, features[kept], specimens[kept], cv=folds).mean()
        for model in (make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)), DummyClassifier())
    ]
    return float(accuracies[0]), float(accuracies[1])


def separability(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], specimens: Int[np.ndarray, " n"]
) -> dict[int, float]:
    """Of each class, the share of its cells' ten nearest neighbours from other specimens that are of the class.

    By cosine, among as many cells of each class (at most PER_CLASS): no better than chance is one over the number of
    classes. Of a cell whose class has fewer than ten cells in other specimens as many neighbours count as there are.
    Classes with fewer than ten cells, or in one specimen alone, are left out; raises ValueError if none is left.
    """
    rng = np.random.default_rng(0)
    counts = {code: int((labels == code).sum()) for code in np.unique(labels)}
    codes = [c for c, n in counts.items() if n >= NEIGHBOURS and len(np.unique(specimens[labels == c])) > 1]
    if not codes:
        raise ValueError(f"a class with {NEIGHBOURS} test cells in two specimens is needed, but cells are {counts}")
    each = min(PER_CLASS, *(counts[code] for code in codes), PER_CLASS)
    chosen = np.concatenate([rng.choice(np.flatnonzero(labels == code), each, replace=False) for code in codes])
    unit = features[chosen] / np.linalg.norm(features[chosen], axis=1, keepdims=True).clip(1e-12)
    elsewhere = specimens[chosen][:, None] != specimens[chosen]
    alike = labels[chosen][:, None] == labels[chosen]
    near = np.where(elsewhere, unit @ unit.T, -np.inf)
    neighbours = np.argsort(-near, axis=1)[:, :NEIGHBOURS]
    asked = (alike & elsewhere).sum(axis=1).clip(max=NEIGHBOURS)
    counted = np.arange(neighbours.shape[1]) < asked[:, None]
    right = (np.take_along_axis(alike, neighbours, axis=1) & counted).sum(axis=1)
    of_class = {int(code): (labels[chosen] == code) & (asked > 0) for code in codes}
    return {code: float((right[cells] / asked[cells]).mean()) for code, cells in of_class.items() if cells.any()}


def feature_map(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> FeatureMap:
    """Standardised features of up to ON_MAP cells, on their two principal components.

    As many cells of each class, all of a class that has fewer. Needs three cells and two features.
    """
    rng = np.random.default_rng(0)
    codes = np.unique(labels)
    each = max(1, ON_MAP // len(codes))
    of_class = {code: rng.permutation(np.flatnonzero(labels == code))[:each] for code in codes}
    chosen = np.concatenate(list(of_class.values()))
    pipeline = make_pipeline(StandardScaler(), PCA(2, svd_solver="full")).fit(features[chosen].astype(np.float64))
    points = {}
    for code, cells in of_class.items():
        x, y = pipeline.transform(features[cells]).round(3).T.tolist()
        points[classes[code]] = list(zip(x, y, strict=True))
    first, second = pipeline[-1].explained_variance_ratio_.round(4).tolist()
    return FeatureMap(points, (first, second))


def feature_card(folder: Path, weights_file: Path | None = None) -> FeatureCard:
    """All of it, of a stored run's test cells; raises ValueError if the crops or the weights are unavailable."""
    restored = restore(folder, weights_file)
    record, network = restored.stored.record, restored.network
    store = require_store(record)
    rows, labels, _ = restored.stored.predictions[CLEAN]
    index_of = {name: i for i, name in enumerate(store.cells["cell_id"])}
    cells = np.array([index_of[name] for name in rows["cell_id"]])
    parts = [predict_features(network, store.crops(part)) for part in np.array_split(cells, len(cells) // BATCH + 1)]
    features = np.concatenate(parts)
    specimens = np.unique(rows["specimen"].to_numpy(), return_inverse=True)[1]
    accuracy, chance = specimen_accuracy(features, specimens)
    shares = separability(features, labels, specimens)
    return FeatureCard(
        specimen_accuracy=accuracy,
        specimen_chance=chance,
        separability={record.classes[code]: share for code, share in shares.items()},
        separability_chance=1 / len(shares),
        n=len(cells),
        map=feature_map(features, labels, record.classes),
    )
