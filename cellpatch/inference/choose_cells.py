"""Which cells to label next: pure functions of probabilities, features and specimens.

A strategy orders candidates, the best first; `choose_cells` takes the first ones, spread over specimens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

UNCERTAIN = 10  # times n: of so many most uncertain cells `diverse` takes one a cluster (our choice)
_COMPONENTS = 64  # principal components that distances are computed in; our choice
_LEAST = 1e-12  # a smaller probability counts as this in the logarithm of an entropy


@dataclass(frozen=True, eq=False)
class Candidates:
    """Cells without a label.

    `names` are unique: they make a choice independent of the cells' order. Rows of `probabilities` add up to 1.
    `features` may be absent for strategies that do not read them.
    """

    names: Shaped[np.ndarray, " n"]
    specimens: Shaped[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"] | None = None
    features: Float[np.ndarray, "n d"] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Int[np.ndarray, " k"]) -> "Candidates":
        """Some of the cells, in this order."""
        return Candidates(
            self.names[rows],
            self.specimens[rows],
            None if self.probabilities is None else self.probabilities[rows],
            None if self.features is None else self.features[rows],
        )


def margins(probabilities: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """The largest probability less the second, in [0, 1]: 0 is least certain."""
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def entropies(probabilities: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """The entropy of the probabilities in nats, from 0 to log(classes): the largest is least certain."""
    return -(probabilities * np.log(probabilities.clip(_LEAST))).sum(axis=1)


Strategy = Callable[[Candidates, int, np.random.Generator], Int[np.ndarray, " k"]]  # at least n of them


def random(cells: Candidates, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Any order is as likely as any other."""
    return rng.permutation(len(cells))


def margin(cells: Candidates, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The smallest margin first."""
    assert cells.probabilities is not None
    return np.argsort(margins(cells.probabilities), kind="stable")


def entropy(cells: Candidates, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """The largest entropy first."""
    assert cells.probabilities is not None
    return np.argsort(-entropies(cells.probabilities), kind="stable")


def diverse(cells: Candidates, n: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Of the UNCERTAIN times n cells of the smallest margin, which are all it orders, one from each of n clusters.

    k-means of features as in Zhdanov, arXiv 1901.05954. The cell nearest to its centre comes first, and the largest
    cluster begins.
    """
    assert cells.features is not None
    pool = margin(cells, n, rng)[: UNCERTAIN * n]
    if len(pool) <= n:
        return pool
    reduced = principal_components(cells.features[pool], rng)
    means = KMeans(n, n_init=1, random_state=int(rng.integers(2**31))).fit(reduced)
    distance = np.linalg.norm(reduced - means.cluster_centers_[means.labels_], axis=1)
    return pool[by_turns(means.labels_, distance)]


STRATEGIES: dict[str, Strategy] = {each.__name__: each for each in (random, margin, entropy, diverse)}


def choose_cells(
    cells: Candidates, strategy: Strategy, n: int, rng: np.random.Generator, spread: bool = True
) -> Int[np.ndarray, " k"]:
    """The rows of the cells to label, in the order of the choice; all of them if there are fewer than `n`.

    With `spread` as `take_spread`. Raises ValueError as `rank_cells`.
    """
    return take_spread(rank_cells(cells, strategy, n, rng), cells.specimens, n, spread)


def rank_cells(cells: Candidates, strategy: Strategy, n: int, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    """The rows of the cells in the order of a strategy that is to choose `n`.

    Equal generators rank equal cells alike, whatever the order of the input. Raises ValueError for n < 1 or a name that
    is there twice.
    """
    if n < 1:
        raise ValueError(f"n must be >= 1, but got {n}")
    order = np.argsort(cells.names, kind="stable")
    if len(np.unique(cells.names)) < len(order):
        raise ValueError("names of cells must be unique")
    return order[strategy(cells.take(order), min(n, len(order)), rng)] if len(order) else order


def take_spread(
    ranking: Int[np.ndarray, " m"], specimens: Shaped[np.ndarray, " n"], n: int, spread: bool = True
) -> Int[np.ndarray, " k"]:
    """The first `n` of a ranking; with `spread` each specimen gives its first cell before any gives its second.

    So the numbers of cells of two specimens differ by one at most, unless one has no more. What is taken stays in the
    order of the ranking. `specimens` are in the order of the cells, not of the ranking.
    """
    if not spread:
        return ranking[:n]
    turn = pd.Series(specimens[ranking]).groupby(specimens[ranking]).cumcount().to_numpy()
    taken = np.lexsort((np.arange(len(ranking)), turn))[:n]
    return ranking[np.sort(taken)]


def by_turns(cluster: Int[np.ndarray, " n"], cost: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """An order in which each cluster gives its cheapest cell before any gives its second; large clusters begin."""
    size = np.bincount(cluster)[cluster]
    by_cost = np.lexsort((cost, cluster))
    turn = np.empty(len(cluster), np.int64)
    turn[by_cost] = pd.Series(cluster[by_cost]).groupby(cluster[by_cost]).cumcount()
    return np.lexsort((cluster, -size, turn))


def principal_components(features: Float[np.ndarray, "n d"], rng: np.random.Generator) -> Float[np.ndarray, "n k"]:
    """Standardised features along at most 64 principal axes, where k-means is quick."""
    deviation = features.std(axis=0)
    standardised = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    k = min(_COMPONENTS, *features.shape)
    return PCA(k, svd_solver="randomized", random_state=int(rng.integers(2**31))).fit_transform(standardised)
