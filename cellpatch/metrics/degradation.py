"""How scores fall with blur and other faults: pure functions of rising sigmas or strengths and of scores at them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def blur_axis(sigmas: Sequence[float]) -> Float[np.ndarray, " k"]:
    """log2(1 + sigma): the axis on which the study measures degradation."""
    return np.log2(1 + np.asarray(sigmas, np.float64))


def slope(sigmas: Sequence[float], scores: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """Least-squares slope of scores against log2(1 + sigma): the study's degradation rate.

    Per doubling of 1 + sigma. Raises ValueError for fewer than two sigmas.
    """
    return _least_squares(sigmas, blur_axis(sigmas), scores)


def slope_per_unit(strengths: Sequence[float], scores: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """Least-squares slope of scores against the strength of a fault other than blur, per unit of the strength.

    Raises ValueError for fewer than two strengths.
    """
    return _least_squares(strengths, np.asarray(strengths, np.float64), scores)


def _least_squares(
    sigmas: Sequence[float], x: Float[np.ndarray, " k"], scores: Float[np.ndarray, "*draws k"]
) -> Float[np.ndarray, "*draws"]:
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs two sigmas at least, but got {list(sigmas)}")
    x = x - x.mean()
    return np.asarray(scores @ x / (x @ x))


def area(sigmas: Sequence[float], scores: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """Mean score over the range of log2(1 + sigma), by trapezoids; raises ValueError unless sigmas rise."""
    x = blur_axis(sigmas)
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"an area needs two rising sigmas at least, but got {list(sigmas)}")
    return np.asarray(np.trapezoid(scores, x, axis=-1) / (x[-1] - x[0]))


def crossover_sigma(sigmas: Sequence[float], lead: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """The sigma at which a lead (score of A less that of B) first falls to zero, linear in log2(1 + sigma).

    0 if there is no lead on clean cells, infinity if it holds at the largest sigma, NaN if a lead is NaN.
    """
    x = blur_axis(sigmas)
    lost = lead <= 0
    right = np.maximum(lost.argmax(axis=-1), 1)  # the first sigma at which the lead is lost
    before, after = (np.take_along_axis(lead, index[..., None], axis=-1)[..., 0] for index in (right - 1, right))
    share = np.divide(before, before - after, out=np.zeros(before.shape), where=before > after)
    ends = 2 ** (x[right - 1] + share.clip(0, 1) * (x[right] - x[right - 1])) - 1
    ends = np.where(lost[..., 0], 0.0, np.where(lost.any(axis=-1), ends, np.inf))
    return np.where(np.isnan(lead).any(axis=-1), np.nan, ends)
