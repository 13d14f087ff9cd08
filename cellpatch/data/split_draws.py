"""Draws of specimens and cells, and counts, for splits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

_DRAWS = 256  # of 303 specimens x 16 classes: 20 ms


def hold_out(
    counts: Int[np.ndarray, "specimens classes"], members: Int[np.ndarray, " m"], share: float, seed: int, leave: int
) -> Int[np.ndarray, " k"]:
    """Of many random draws of a share of the specimens, the one whose share is nearest to it in every class.

    A draw that lacks a class, or leaves fewer than `leave` specimens of one, is taken only if all draws do.
    StratifiedGroupKFold of scikit-learn does not serve: it sorts the groups, so its seed decides between equal groups
    only (seeds 0 and 1 gave the same parts of 20 specimens).
    """
    from sklearn.model_selection import ShuffleSplit  # a second to import, and preparing a store splits nothing

    draws = [members[drawn] for _, drawn in ShuffleSplit(_DRAWS, test_size=share, random_state=seed).split(members)]
    total = counts[members].sum(axis=0)
    worst = [np.abs(counts[drawn].sum(axis=0) / total / share - 1)[total > 0].max() for drawn in draws]
    present = counts > 0
    held_out = [present[drawn].sum(axis=0) for drawn in draws]
    left = [present[members].sum(axis=0) - n for n in held_out]
    lost = [int(((n < 1) | (m < leave)).sum()) for n, m in zip(held_out, left, strict=True)]
    return draws[min(range(_DRAWS), key=lambda i: (lost[i], worst[i]))]


def assign_folds(
    labels: Int[np.ndarray, " n"], specimens: Int[np.ndarray, " n"], folds: int, seed: int
) -> Int[np.ndarray, " n"]:
    """The fold of each cell, from 0: specimens stay whole, and classes are spread over the folds.

    By scikit-learn's StratifiedGroupKFold; `seed` decides between specimens of equal counts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    fold_of = np.empty(len(labels), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, specimens)):
        fold_of[test] = fold
    return fold_of


def prefix_of_each_class(
    index: Int[np.ndarray, " m"], labels: Int[np.ndarray, " n"], n_classes: int, limit: int, seeds: list[int]
) -> Int[np.ndarray, " k"]:
    """The first `limit` cells of each class in one permutation, so that a smaller limit is inside a larger."""
    kept, own = [], labels[index]
    for code in range(n_classes):
        members = index[own == code]
        order = np.random.default_rng([seeds[0], code, *seeds[1:]]).permutation(len(members))
        kept.append(members[order[:limit]])
    return np.sort(np.concatenate(kept))


def counts_by_class(labels: Int[np.ndarray, " m"], classes: Sequence[str]) -> dict[str, int]:
    """Cells of each class."""
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}
