"""The ways of choosing labels that next_rounds.py compares: those of cellpatch next, and others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from cellpatch.inference.choose_cells import STRATEGIES, Candidates, Strategy, by_turns, principal_components

RANDOM, ORACLE = "random", "class-balanced random"
MOST_CLUSTERS, NEIGHBOURS = 500, 20  # of TypiClust, as published


@dataclass(frozen=True, eq=False)
class Cells:
    """Labelled cells with features, and the indices of the pool, of validation and of test cells."""

    features: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    specimens: Shaped[np.ndarray, " n"]
    pool: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " m"]
    test: Int[np.ndarray, " t"]
    classes: int


@dataclass(frozen=True)
class Way:
    """How a round chooses: a strategy, made of the cells and of those labelled so far, and whether it spreads."""

    make: Callable[[Cells, Int[np.ndarray, " l"], Int[np.ndarray, " u"]], Strategy]
    spread: bool = True
    needs_labels: bool = False


def typical(labelled: Float[np.ndarray, "l d"]) -> Strategy:
    """TypiClust (Hacohen et al., ICML 2022): the most typical cell of each of the largest clusters without a label."""

    def order(cells: Candidates, n: int, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
        assert cells.features is not None
        reduced = principal_components(np.concatenate([cells.features, labelled]), rng)
        clusters = min(len(labelled) + n, MOST_CLUSTERS, len(reduced))
        means = MiniBatchKMeans(clusters, n_init=1, random_state=int(rng.integers(2**31))).fit(reduced)
        cluster, covered = np.split(means.labels_, [len(cells)])
        atypical = np.empty(len(cells))
        for each in np.unique(cluster):
            members = np.flatnonzero(cluster == each)
            near = min(NEIGHBOURS + 1, len(members))
            distances = NearestNeighbors(n_neighbors=near).fit(reduced[members]).kneighbors(reduced[members])[0]
            atypical[members] = distances.sum(axis=1) / max(1, near - 1)
        turns = by_turns(cluster, atypical)
        return turns[np.argsort(np.isin(cluster[turns], covered), kind="stable")]

    return order


def balanced(labels: Int[np.ndarray, " u"]) -> Strategy:
    """As many of each class as there are, at random: an oracle."""
    return lambda cells, n, rng: by_turns(labels, rng.random(len(labels)))


def _plain(name: str, spread: bool = True) -> Way:
    return Way(lambda cells, labelled, rest: STRATEGIES[name], spread)


WAYS: dict[str, Way] = {
    RANDOM: _plain("random", spread=False),
    ORACLE: Way(lambda cells, labelled, rest: balanced(cells.labels[rest]), spread=False, needs_labels=True),
    "random, spread": _plain("random"),
    "margin": _plain("margin", spread=False),
    "margin, spread": _plain("margin"),
    "entropy, spread": _plain("entropy"),
    "diverse, spread": _plain("diverse"),
    "typical, spread": Way(lambda cells, labelled, rest: typical(cells.features[labelled])),
}
