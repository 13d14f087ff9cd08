"""What more labels are worth, in words: part of cellpatch next."""

import numpy as np

from cellpatch.analysis.planner import Planner
from cellpatch.analysis.rounds import Rounds
from cellpatch.analysis.scaling import LEAST_LIMITS, MAX_EXTRAPOLATION


def plan_in_words(rounds: Rounds, target: float | None, more: int, seconds_per_label: float | None) -> list[str]:
    """Lines: the score of each round, how many labels a target takes, and what the next `more` are worth."""
    planner, labels = rounds.planner, rounds.labels
    lines = [f"macro-F1 on {rounds.tested_on}, by training labels (95 % intervals):"]
    for number, estimate in zip(labels, planner.estimates, strict=True):
        lines.append(f"  {number:>7}  {_with_interval(estimate.summary())}")
    refusal = _refusal(planner)
    if refusal:
        lines.append(f"no curve beyond {labels[-1]} labels: {refusal}")
    if target is not None:
        lines.append(_target_line(planner, target, seconds_per_label))
    gain = planner.gain(more) if len(labels) > 1 else None
    cost = f" ({_duration(more * seconds_per_label)} of labelling)" if seconds_per_label else ""
    if gain is not None:
        lines.append(f"{more} more labels{cost}: macro-F1 {_with_interval(gain, '+')}, by the curve")
    elif len(labels) > 1:
        last = planner.means[-1] - planner.means[-2]
        lines.append(
            f"{more} more labels{cost}: not predicted; the last {labels[-1] - labels[-2]} labels brought {last:+.3f}"
        )
    elif cost:
        lines.append(f"{more} more labels{cost}: their worth is not known after one round")
    return lines


def _refusal(planner: Planner) -> str | None:
    n = len(planner.limits)
    if n < LEAST_LIMITS:
        return f"{n} round{'s' * (n > 1)}, and a curve needs {LEAST_LIMITS} with different numbers of labels"
    return planner.refusal


def _target_line(planner: Planner, target: float, seconds_per_label: float | None) -> str:
    last = planner.limits[-1]
    if planner.means[-1] >= target:
        return f"macro-F1 {target:g}: reached"
    if len(planner.limits) < LEAST_LIMITS or planner.laws is None:
        return f"macro-F1 {target:g}: not reached with {last} labels; how many it takes is not known"
    value, low, high = planner.needed(target)
    if not np.isfinite(value):
        return f"macro-F1 {target:g}: not within {MAX_EXTRAPOLATION:g} times the present labels, by the curve"
    ends = f"{max(low - last, 0):.0f} to {f'{high - last:.0f}' if np.isfinite(high) else 'no known end'}"
    cost = f", {_duration((value - last) * seconds_per_label)} of labelling" if seconds_per_label else ""
    return f"macro-F1 {target:g}: {value - last:.0f} more labels ({ends}){cost}, by the curve"


def _with_interval(value: tuple[float, float, float], sign: str = "") -> str:
    at, low, high = value
    return f"{at:{sign}.3f}" + (f" ({low:{sign}.3f} to {high:{sign}.3f})" if low < high else " (no interval)")


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{minutes} minute{'s' * (minutes > 1)}"
