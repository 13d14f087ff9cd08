"""Permutation tests and their correction for many comparisons."""

import numpy as np
from jaxtyping import Float, Int

from cellpatch.analysis.bootstrap import weighted_counts
from cellpatch.metrics.scores import Score


def permutation_p(
    first: Int[np.ndarray, "seeds specimens 3 classes"],
    second: Int[np.ndarray, "..."],
    score: Score,
    draws: int,
    seed: int,
) -> float:
    """Two-sided p of no difference between two models on the same cells: their specimens are swapped at random.

    A specimen is swapped in all seeds at once, and means over seeds are compared. The observed assignment counts as
    one of the draws, so p is at least 1 / (draws + 1) (Phipson & Smyth, 2010). Raises ValueError if shapes differ.
    """
    if first.shape != second.shape:
        shapes = f"{first.shape} and {second.shape}"
        raise ValueError(f"both models must have the same seeds, specimens and classes, but got {shapes}")
    swaps = np.random.default_rng(seed).integers(0, 2, (draws, first.shape[1]))
    swaps = np.concatenate([np.zeros_like(swaps[:1]), swaps])  # the first row is the observed assignment
    differences = np.zeros(draws + 1)
    for start in range(0, draws + 1, 500):  # as many as stay in the processor's cache
        part = slice(start, start + 500)
        for a, b in zip(first, second, strict=True):
            moved = weighted_counts(b - a, swaps[part])
            differences[part] += score(a.sum(axis=0) + moved) - score(b.sum(axis=0) - moved)
    return float(np.mean(np.abs(differences) >= np.abs(differences[0]) - 1e-12))


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """p values corrected for multiple comparisons: the familywise error rate stays at the level (Holm, 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1)
    return out
