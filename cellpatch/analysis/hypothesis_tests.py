"""Permutation tests and their correction for many comparisons."""

import numpy as np
from jaxtyping import Float, Int

from cellpatch.analysis.bootstrap import weighted_counts
from cellpatch.metrics.scores import Score


def permutation_p(
    one: Int[np.ndarray, "seeds specimens 3 classes"],
    other: Int[np.ndarray, "..."],
    score: Score,
    draws: int,
    seed: int,
) -> float:
    """Two-sided p of no difference between two models on the same cells: their specimens are swapped at random.

    A specimen is swapped in all seeds at once; compared are the means over seeds. The observed assignment counts as
    one of the draws, so p is at least 1 / (draws + 1) (Phipson & Smyth, 2010).
    """
    if one.shape != other.shape:
        shapes = f"{one.shape} and {other.shape}"
        raise ValueError(f"both models must have the same seeds, specimens and classes, but got {shapes}")
    swaps = np.random.default_rng(seed).integers(0, 2, (draws, one.shape[1]))
    swaps = np.concatenate([np.zeros_like(swaps[:1]), swaps])  # the first is what was observed
    apart = np.zeros(draws + 1)
    for first in range(0, draws + 1, 500):  # what stays in the processor's cache
        part = slice(first, first + 500)
        for a, b in zip(one, other, strict=True):
            moved = weighted_counts(b - a, swaps[part])
            apart[part] += score(a.sum(axis=0) + moved) - score(b.sum(axis=0) - moved)
    return float(np.mean(np.abs(apart) >= np.abs(apart[0]) - 1e-12))


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """p values corrected for their number: a false alarm among all of them stays as rare as the level (Holm, 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1)
    return out
