"""How a score grows with annotations: fitted curves, where one overtakes another, how many a target takes.

Pure functions of rising flag_limits and of scores at them; a leading axis of bootstrap draws gives intervals.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from cellpatch.analysis.bootstrap import interval

EXPONENTS = np.geomspace(0.0625, 2.0, 181)  # the grid of a fit, 2 % apart; published curves lie at 0.1 to 1
LEAST_LIMITS = 4  # three parameters and one point to contradict them
MAX_EXPONENT_RATIO = 5.0  # an interval with ends farther apart leaves the exponent open
MAX_EXTRAPOLATION = 4.0  # times the largest limit; no curve is trusted beyond it

Limits = Sequence[float]
Scores = Float[np.ndarray, "*draws k"]


def fit_power_law(limits: Limits, scores: Scores) -> Float[np.ndarray, "*draws 3"]:
    """Least-squares (floor, gain, exponent) of 1 - score = floor + gain (limit / limits[0])^-exponent.

    Floor and gain are at least 0, the exponent is the best of EXPONENTS (Hestness et al., arXiv 1712.00409).
    """
    errors = 1 - np.asarray(scores, np.float64)
    powers = (np.asarray(limits, np.float64) / limits[0]) ** -EXPONENTS[:, None]  # [exponents, k]
    centred = powers - powers.mean(axis=1, keepdims=True)
    gain = np.maximum(errors @ centred.T / (centred**2).sum(axis=1), 0)
    floor = errors.mean(axis=-1)[..., None] - gain * powers.mean(axis=1)
    without_floor = errors @ powers.T / (powers**2).sum(axis=1)
    gain, floor = np.where(floor < 0, without_floor, gain), np.maximum(floor, 0)
    residuals = errors[..., None, :] - floor[..., None] - gain[..., None] * powers
    best = (residuals**2).sum(axis=-1).argmin(axis=-1)[..., None]
    chosen = [np.take_along_axis(each, best, axis=-1)[..., 0] for each in (floor, gain)]
    return np.stack([*chosen, EXPONENTS[best[..., 0]]], axis=-1)


def power_law(fit: Float[np.ndarray, "*draws 3"], first: float, limits: Limits) -> Scores:
    """Scores of a fit at limits; `first` is the smallest limit that it was fitted to."""
    floor, gain, exponent = (fit[..., i, None] for i in range(3))
    return 1 - floor - gain * (np.asarray(limits, np.float64) / first) ** -exponent


def why_no_power_law(limits: Limits, draws: Float[np.ndarray, "draws k"]) -> str | None:
    """Why the data do not support a fit, or None.

    Reasons: too few limits, no growth, an exponent that is not identifiable or lies at an end of EXPONENTS, or scores
    too far from the law. Too far is beyond the 99th percentile of the draws' residuals less the mean's.
    """
    if len(limits) < LEAST_LIMITS:
        return f"{len(limits)} limits, and a power law with a floor needs {LEAST_LIMITS}"
    if np.isnan(draws).any():
        return "there is no interval"
    if interval(draws[:, -1] - draws[:, 0])[0] <= 0:
        return f"no growth beyond chance from {limits[0]:g} to {limits[-1]:g}"
    drawn = fit_power_law(limits, draws)
    low, high = interval(drawn[:, 2])
    if high > MAX_EXPONENT_RATIO * low:
        return f"the exponent is not identifiable, {low:.2g} to {high:.2g}"
    if low <= EXPONENTS[0] or high >= EXPONENTS[-1]:
        return f"the exponent is at an end of the searched range, {EXPONENTS[0]:.2g} to {EXPONENTS[-1]:.2g}"
    mean = draws.mean(axis=0)
    of_mean = mean - power_law(fit_power_law(limits, mean), limits[0], limits)
    of_draws = np.square(draws - power_law(drawn, limits[0], limits) - of_mean).mean(axis=1)
    off, chance = np.sqrt([np.square(of_mean).mean(), np.quantile(of_draws, 0.99)])
    if off > chance:
        return f"no power law fits: scores deviate by {off:.2g}, by chance at most {chance:.2g}"
    return None


def overtakes_at(limits: Limits, lead: Float[np.ndarray, "*draws k"]) -> Float[np.ndarray, "*draws"]:
    """The limit from which on a model stays ahead, linear in log2 between limits.

    `lead` is its score less that of its rival. 0 if it is ahead at every limit, infinity if not at the largest, NaN if
    a lead is NaN.
    """
    x = np.log2(np.asarray(limits, np.float64))
    behind: Bool[np.ndarray, "*draws k"] = lead <= 0
    last = behind.shape[-1] - 1 - behind[..., ::-1].argmax(axis=-1)  # the last limit at which it is behind
    left = np.minimum(last, len(x) - 2)
    before, after = (np.take_along_axis(lead, index[..., None], axis=-1)[..., 0] for index in (left, left + 1))
    share = np.divide(-before, after - before, out=np.zeros(before.shape), where=after > before)
    crossing = 2 ** (x[left] + share.clip(0, 1) * (x[left + 1] - x[left]))
    crossing = np.where(~behind.any(axis=-1), 0.0, np.where(behind[..., -1], np.inf, crossing))
    return np.where(np.isnan(lead).any(axis=-1), np.nan, crossing)


def limit_for(
    limits: Limits, scores: Scores, target: float, fit: Float[np.ndarray, "*draws 3"] | None = None
) -> Float[np.ndarray, "*draws"]:
    """The flag_limit from which on the target is reached: between limits linear in log2, beyond them by a power law.

    `fit` is the law, as `fit_power_law` gives it. 0 if every limit reaches the target; infinity if none does, and a
    law is missing or does not reach it within MAX_EXTRAPOLATION times the largest limit.
    """
    passed = np.nextafter(target, -np.inf)  # a score above it reaches the target
    within = overtakes_at(limits, np.asarray(scores, np.float64) - passed)
    if fit is None:
        return within
    floor, gain, exponent = np.moveaxis(fit, -1, 0)
    room = 1 - target - floor
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.where(room > 0, limits[0] * (gain / room) ** (1 / exponent), np.inf)
    beyond = np.where(beyond > MAX_EXTRAPOLATION * limits[-1], np.inf, np.maximum(beyond, limits[-1]))
    return np.where(np.isinf(within), beyond, within)
