"""How far annotators agree, with intervals over specimens, and one label for each cell."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellpatch.analysis.estimates import Estimate
from cellpatch.data.annotators import Ratings
from cellpatch.metrics.agreement import cohen_kappa, coincidences, krippendorff_alpha

DRAWS = 2000


def pairs_table(ratings: Ratings) -> pd.DataFrame:
    """A row for all annotators (Krippendorff's alpha), and one a pair (Cohen's kappa), with cells that both labelled.

    `agreement` is the share of (pairs of) labels that agree. `low` and `high` are the 95 % interval over specimens, or
    images; NaN where neither is stated, or there is one.
    """
    k = len(ratings.classes)
    groups = ratings.groups if ratings.groups is not None else np.zeros(len(ratings.labels), np.int64)
    together = coincidences(ratings.labels, k, groups)
    several = int(((ratings.labels >= 0).sum(axis=1) > 1).sum())
    rows = [_row("all", "", "Krippendorff's alpha", several, together, krippendorff_alpha)]
    for a, b in combinations(range(len(ratings.annotators)), 2):
        confusion = confusions(ratings, a, b, groups)
        names = ratings.annotators[a], ratings.annotators[b]
        rows.append(_row(*names, "Cohen's kappa", int(confusion.sum()), confusion, cohen_kappa))
    return pd.DataFrame(rows)


def confusions(
    ratings: Ratings, first: int, second: int, groups: Int[np.ndarray, " cells"]
) -> Float[np.ndarray, "groups classes classes"]:
    """Cells of each group by the class of one annotator (rows) and of another (columns)."""
    k = len(ratings.classes)
    a, b = ratings.labels[:, first], ratings.labels[:, second]
    both = (a >= 0) & (b >= 0)
    counts = np.zeros((int(groups.max(initial=-1)) + 1, k, k))
    np.add.at(counts, (groups[both], a[both], b[both]), 1)
    return counts


def confusion_table(ratings: Ratings) -> pd.DataFrame:
    """A row a pair of annotators and of classes that they gave to the same cells."""
    rows = []
    nothing = np.zeros(len(ratings.labels), np.int64)
    for a, b in combinations(range(len(ratings.annotators)), 2):
        counts = confusions(ratings, a, b, nothing)[0].astype(int)
        for i, j in np.argwhere(counts):
            about = {"first": ratings.annotators[a], "second": ratings.annotators[b]}
            classes = {"class_first": ratings.classes[i], "class_second": ratings.classes[j]}
            rows.append(about | classes | {"cells": int(counts[i, j])})
    return pd.DataFrame(rows, columns=["first", "second", "class_first", "class_second", "cells"])


def _row(
    first: str,
    second: str,
    measure: str,
    cells: int,
    counts: Float[np.ndarray, "groups classes classes"],
    score: Callable[[np.ndarray], np.ndarray],
) -> dict[str, object]:
    whole = counts.sum(axis=0)
    low, high = _interval(counts[counts.any(axis=(1, 2))], score)
    share = float(np.trace(whole) / whole.sum()) if whole.any() else float("nan")
    row = {"first": first, "second": second, "measure": measure, "cells": cells, "agreement": share}
    return row | {"value": float(score(whole)), "low": low, "high": high}


def _interval(
    counts: Float[np.ndarray, "groups classes classes"], score: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """As `Estimate.interval`; draws without a score count as drawn again. NaN for one group, or if most have none."""
    n = len(counts)
    if n < 2:
        return float("nan"), float("nan")
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    draws = score(np.tensordot(weights.astype(np.float64), counts, axes=1))
    draws = draws[np.isfinite(draws)]
    if len(draws) < DRAWS / 2:
        return float("nan"), float("nan")
    without = score(counts.sum(axis=0) - counts)
    value = np.array([score(counts.sum(axis=0))])
    return Estimate(value, draws[:, None], without[:, None], (0,), (-1.0, 1.0)).interval()


@dataclass(frozen=True, eq=False)
class Consensus:
    """One class for each cell, by index; how sure it is (0 to 1); whether the most votes were shared by two classes.

    `quality` is the share of votes for the class, or CROWDLAB's quality of the label.
    """

    labels: Int[np.ndarray, " cells"]
    quality: Float[np.ndarray, " cells"]
    tied: Bool[np.ndarray, " cells"]

    @property
    def largest_share(self) -> float:
        """The share of cells of the most frequent class."""
        return float(np.bincount(self.labels).max() / len(self.labels))


def majority(ratings: Ratings) -> Consensus:
    """The class of most votes; of a tie the one that annotators use more often, then the first by name."""
    votes = (ratings.labels[:, :, None] == np.arange(len(ratings.classes))).sum(axis=1)
    most = votes.max(axis=1, keepdims=True)
    shared = votes == most
    often = votes.sum(axis=0)
    labels = np.where(shared, often, -1).argmax(axis=1)
    return Consensus(labels, most[:, 0] / votes.sum(axis=1), shared.sum(axis=1) > 1)


def crowdlab(ratings: Ratings, probabilities: Float[np.ndarray, "cells classes"]) -> Consensus:
    """Consensus of annotators and networks by CROWDLAB (Goh, Tkachenko and Mueller, 2022), as cleanlab implements it.

    `probabilities` are out of sample, in the order of `ratings.classes`.
    """
    from cleanlab.multiannotator import get_label_quality_multiannotator  # a second to import

    given = pd.DataFrame(np.where(ratings.labels < 0, np.nan, ratings.labels), columns=list(ratings.annotators))
    found = get_label_quality_multiannotator(
        given, probabilities, return_detailed_quality=False, return_annotator_stats=False, verbose=False
    )["label_quality"]
    labels = found["consensus_label"].to_numpy(np.int64)
    return Consensus(labels, found["consensus_quality_score"].to_numpy(), majority(ratings).tied)
