"""Do our 95 % intervals cover the truth 95 % of the time, and how far off is an interval over cells?

    make coverage      # or: python experiments/studies/coverage.py [--studies 1000]

It writes tables/coverage.csv, .md and .tex.

And how often is one of several equal models called worse than the best, which the same cells decided?

Simulated, so the truth is known: specimens differ in how hard they are (normal on the logit, sd 0.7), in which classes
they hold (Dirichlet) and in how many cells; a model has its own quirks on each specimen (sd 0.4), a seed on each class
(sd 0.15). A study sees some specimens and three seeds of two models. The truth is macro-F1 over all specimens there
are: of the seed at hand where an interval is of one seed, else the mean over all seeds there are. For crossings the
second model stays as it is over four flag_limits and the first grows past it (GROWTH). EQUAL models all have the
first one's skill: there an interval holds if no model is behind the best by it. The table states how often each
interval covers the true value, with the standard error of that share, and its mean width (of crossings in doublings of
the limit, of those with two ends).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cellpatch.analysis.bootstrap import (
    bca_interval,
    bootstrap_weights,
    interval,
    interval_of_mean,
    leave_one_out,
    seed_noise,
    weighted_counts,
)
from cellpatch.analysis.estimates import Estimate, difference, simultaneous_intervals
from cellpatch.analysis.scaling import overtakes_at
from cellpatch.figures.tables import write_table
from cellpatch.metrics.scores import class_counts, macro_f1

SEEDS, DRAWS = 3, 1000
SKILL = np.array([[2.0, 1.5, 1.0, 0.5], [1.8, 1.2, 1.0, 0.9]])  # of two models at each class, logit
MODELS, CLASSES = SKILL.shape
MIX = np.array([4, 2, 1, 0.7])  # of the classes
LIMITS, GROWTH = (256, 512, 1024, 2048), np.array([-0.5, -0.2, 0.1, 0.4])  # added to the first model's skill
EQUAL = 8
HARDNESS, QUIRKS, OF_SEEDS = 0.7, 0.4, 0.15  # standard deviations on the logit


def simulate(rng: np.random.Generator, specimens: int, skill: np.ndarray) -> np.ndarray:
    """Confusion matrices [models, seeds, specimens, classes, classes] of a skill [models, seeds, classes]."""
    sizes = rng.lognormal(4, 0.6, specimens).astype(int) + 5
    n = rng.multinomial(sizes, rng.dirichlet(MIX, specimens))
    hardness = rng.normal(0, HARDNESS, (specimens, 1))
    out = []
    for of_model in skill:
        place = hardness + rng.normal(0, QUIRKS, (specimens, CLASSES))
        out.append([_answers(rng, n, place + of_seed) for of_seed in of_model])
    return np.array(out)


def truth(skill: np.ndarray) -> np.ndarray:
    """Macro-F1 over all specimens there are, [...] of skill [..., classes], by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    logit = skill[..., None] + np.hypot(HARDNESS, QUIRKS) * nodes
    recall = (weights / weights.sum() / (1 + np.exp(-logit))).sum(axis=-1)
    share = MIX / MIX.sum()
    counts = np.tile(((1 - recall) / (CLASSES - 1) * share)[..., None], CLASSES)
    counts[..., np.arange(CLASSES), np.arange(CLASSES)] = recall * share
    return macro_f1(class_counts(counts))


def _answers(rng: np.random.Generator, n: np.ndarray, logit: np.ndarray) -> np.ndarray:
    right = rng.binomial(n, 1 / (1 + np.exp(-logit)))
    counts = np.zeros((*n.shape, CLASSES), np.int64)
    for true in range(CLASSES):
        wrong = rng.multinomial(n[:, true] - right[:, true], np.full(CLASSES - 1, 1 / (CLASSES - 1)))
        counts[:, true, [other for other in range(CLASSES) if other != true]] = wrong
        counts[:, true, true] = right[:, true]
    return counts


def intervals(counts: np.ndarray, seed: int) -> Iterator[tuple[str, str, tuple[float, float]]]:
    """Name, which truth it is of, and interval, of macro-F1, each as the tables make it."""
    cells = macro_f1(class_counts(_of_cells(counts[0, 0], seed)))
    counts = class_counts(counts)
    times, _ = bootstrap_weights(counts[0, 0, :, 1], DRAWS, seed)
    whole = macro_f1(counts.sum(axis=2))  # [models, seeds]
    draws = np.stack([[macro_f1(weighted_counts(run, times)) for run in model] for model in counts])
    yield "one seed, specimens, percentile", "seed", interval(draws[0, 0])
    without = macro_f1(leave_one_out(counts[0, 0]))
    yield "one seed, specimens, BCa", "seed", bca_interval(float(whole[0, 0]), draws[0, 0], without)
    yield "one seed, cells", "seed", interval(cells)
    means = draws.mean(axis=1)
    yield "three seeds, specimens alone", "model", interval(means[0])
    yield "three seeds, specimens and seeds", "model", interval_of_mean(whole[0], means[0])
    yield "difference, specimens alone", "difference", interval(means[0] - means[1])
    apart = whole[0] - whole[1]
    yield "difference, specimens and seeds", "difference", interval_of_mean(apart, means[0] - means[1])
    both = means + np.stack([seed_noise(model, range(SEEDS), DRAWS, seed) for model in whole])
    yield "difference, draws over specimens and seeds", "difference", interval(both[0] - both[1])


def crossing(rng: np.random.Generator, specimens: int) -> tuple[float, float]:
    """The interval of the limit from which the first model of one simulated study stays ahead, as `curves.crossing`."""
    grown = np.stack([SKILL[0] + GROWTH[:, None], np.tile(SKILL[1], (len(LIMITS), 1))])  # [models, limits, classes]
    skill = grown.reshape(-1, 1, CLASSES) + rng.normal(0, OF_SEEDS, (MODELS * len(LIMITS), SEEDS, CLASSES))
    counts = class_counts(simulate(rng, specimens, skill))
    times, _ = bootstrap_weights(counts[0, 0, :, 1], DRAWS, int(rng.integers(2**31)))
    whole = macro_f1(counts.sum(axis=2)).reshape(MODELS, len(LIMITS), SEEDS)
    draws = np.stack([macro_f1(weighted_counts(run, times)) for model in counts for run in model])
    means = draws.reshape(MODELS, len(LIMITS), SEEDS, DRAWS).mean(axis=2)
    noise = [seed_noise(apart, range(SEEDS), DRAWS, 0) for apart in whole[0] - whole[1]]
    return interval(overtakes_at(LIMITS, (means[0] - means[1] + np.stack(noise)).T))


def true_crossing(rng: np.random.Generator) -> float:
    """Where it is over all specimens and seeds there are."""
    of_seeds = rng.normal(0, OF_SEEDS, (100_000, CLASSES))
    ahead = [truth(SKILL[0] + more + of_seeds).mean() - truth(SKILL[1] + of_seeds).mean() for more in GROWTH]
    return float(overtakes_at(LIMITS, np.array(ahead)))


def _of_cells(counts: np.ndarray, seed: int) -> np.ndarray:
    whole = counts.sum(axis=0)
    drawn = np.random.default_rng(seed).multinomial(whole.sum(), whole.ravel() / whole.sum(), DRAWS)
    return drawn.reshape(DRAWS, *whole.shape)


def coverage(specimens: int, studies: int, seed: int = 0) -> pd.DataFrame:
    """One row an interval: how often it held the truth, and its mean width."""
    rng = np.random.default_rng(seed)
    one, other = truth(SKILL[:, None] + rng.normal(0, OF_SEEDS, (MODELS, 100_000, CLASSES))).mean(axis=1)
    where = true_crossing(rng)
    held: dict[str, list[tuple[bool, float]]] = {}
    for study in range(studies):
        skill = SKILL[:, None] + rng.normal(0, OF_SEEDS, (MODELS, SEEDS, CLASSES))
        true = {"seed": truth(skill[0, 0]), "model": one, "difference": one - other}
        for name, which, (low, high) in intervals(simulate(rng, specimens, skill), study):
            held.setdefault(name, []).append((bool(low <= true[which] <= high), high - low))
        low, high = crossing(rng, specimens)
        held.setdefault("crossing of two curves", []).append((low <= where <= high, _doublings(low, high)))
    return _shares(held, specimens)


def alarms(specimens: int, studies: int, seed: int = 0) -> pd.DataFrame:
    """Two rows: in how many studies of equal models none is behind the best, by either kind of interval."""
    rng = np.random.default_rng([seed, EQUAL])
    held: dict[str, list[tuple[bool, float]]] = {}
    for study in range(studies):
        counts = class_counts(simulate(rng, specimens, SKILL[0] + rng.normal(0, OF_SEEDS, (EQUAL, SEEDS, CLASSES))))
        times, _ = bootstrap_weights(counts[0, 0, :, 1], DRAWS, study)
        whole = macro_f1(counts.sum(axis=2))
        draws = [np.stack([macro_f1(weighted_counts(run, times)) for run in model], axis=1) for model in counts]
        scores = [Estimate(*of_model, tuple(range(SEEDS))) for of_model in zip(whole, draws, strict=True)]
        best, *others = sorted(scores, key=lambda score: -score.mean)
        apart = [difference(best, other) for other in others]
        both = {"each": [each.interval() for each in apart], "all pairs at once": simultaneous_intervals(apart)}
        for which, ends in both.items():
            low, high = np.transpose(ends)
            held.setdefault(f"{EQUAL} equal models, behind the best, {which}", []).append(
                (bool(low.max() <= 0), float((high - low).mean()))
            )
    return _shares(held, specimens)


def _shares(held: dict[str, list[tuple[bool, float]]], specimens: int) -> pd.DataFrame:
    rows = []
    for name, found in held.items():
        inside, width = np.array(found, float).T
        error = np.sqrt(inside.mean() * (1 - inside.mean()) / len(found))
        row = {"specimens": specimens, "interval": name, "covers": inside.mean(), "error": error}
        rows.append(row | {"width": np.nanmean(width), "studies": len(found)})
    return pd.DataFrame(rows)


def _doublings(low: float, high: float) -> float:
    return float(np.log2(high / low)) if low > 0 and high < np.inf else np.nan


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/coverage.py", description="Simulate interval coverage."
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--specimens", type=int, nargs="+", default=[10, 20, 57, 120])
    options = parser.parse_args()
    parts = [part(specimens, options.studies) for specimens in options.specimens for part in (coverage, alarms)]
    table = pd.concat(parts)
    shares = zip(table["covers"], table["error"], strict=True)
    shown = pd.DataFrame(
        {
            "test specimens": table["specimens"],
            "95 % interval of macro-F1": table["interval"],
            "covers": [f"{100 * share:.1f} ± {100 * error:.1f} %" for share, error in shares],
            "width": [f"{width:.3f}" for width in table["width"]],
        }
    )
    write_table(Path("tables/coverage"), table, shown)


if __name__ == "__main__":
    main()
