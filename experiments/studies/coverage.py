"""How often do our 95 % intervals cover the true value, in simulated studies where it is known?

    make coverage                  # designs of our choice: tables/coverage.csv, .md, .tex
    make coverage RUNS=runs        # the test specimens, classes, recalls and errors of these runs

simulated_study.py draws the studies: three seeds of two models. Intervals of one seed are compared with the true score
of that seed, others with the mean over all seeds. For crossings the second model stays as it is over four limits and
the first grows past it (GROWTH). For slopes the first loses LOSS per doubling of 1 + sigma, its seeds somewhat more or
less (LOSS_OF_SEEDS). The last rows are of EQUAL models, of which none may be called behind, and of EQUAL with one that
is better by AHEAD, which may not be left out of the best. `covers` has its standard error; `width` is a mean (of
crossings in doublings of the limit, of those with two ends).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from simulated_study import (
    OF_SEEDS,
    Design,
    answers,
    design_of,
    estimates,
    mean_truth,
    mixed_design,
    rare_design,
    simulate,
    truth,
)

from cellpatch.analysis.best_set import best_set
from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.curves import crossing_of
from cellpatch.analysis.estimates import Estimate, combine, difference
from cellpatch.analysis.groups import at_one_limit, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.analysis.scaling import overtakes_at
from cellpatch.figures.tables import write_table
from cellpatch.metrics.degradation import blur_axis, slope
from cellpatch.metrics.scores import Score, class_counts, class_f1, macro_f1, macro_f1_of, widespread_classes
from cellpatch.optics.conditions import CLEAN

SEEDS, DRAWS = 3, 1000
OTHER = np.array([-0.2, -0.3, 0.0, 0.4])  # added to the first model's skill, in turns over the classes
LIMITS, GROWTH = (256, 512, 1024, 2048), np.array([-0.5, -0.2, 0.1, 0.4])  # added to the first model's skill
SIGMAS, LOSS = (0.0, 0.8, 1.6, 3.2), 0.4  # on the logit
LOSS_OF_SEEDS = 0.03  # its sd over seeds: 0.006 of macro-F1 per doubling, as of 15 networks in curve.parquet
EQUAL, AHEAD = 8, 0.3

Interval = tuple[float, float]
Row = tuple[str, Interval, float]  # what it is of, the interval, the true value


def coverage(design: Design, studies: int, seed: int = 0) -> pd.DataFrame:
    """One row an interval: how often it covered the true value, and its mean width."""
    rng = np.random.default_rng(seed)
    sample = design.true(rng)
    widespread = widespread_classes(sample)
    scores: dict[str, Score] = {"macro-F1": macro_f1}
    if 0 < len(widespread) < len(design.share):
        scores["macro-F1 over widespread classes"] = macro_f1_of(widespread)
    scarcest = int((sample > 0).sum(axis=0).argmin())
    scores["F1 of the class in the fewest specimens"] = class_f1(scarcest)
    both = _skills(design)
    crossing, slopes = _Crossing(design, both), _Slopes(design, both)
    true = {name: mean_truth(design, both, score) for name, score in scores.items()}
    found: dict[str, list[tuple[bool, float]]] = {}
    for study in range(studies):
        skill = both[:, None] + rng.normal(0, OF_SEEDS, (2, SEEDS, len(design.share)))
        confusions = simulate(rng, design, skill)
        rows = [*crossing.rows(rng, study), *slopes.rows(rng, study)]
        for name, score in scores.items():
            rows += _rows(name, design, confusions, skill, score, true[name], study)
        for name, (low, high), value in rows:
            width = _doublings(low, high) if "crossing" in name else high - low
            found.setdefault(name, []).append((bool(low <= value <= high), width))
    return _shares(found, design)


def _skills(design: Design) -> np.ndarray:
    return np.stack([design.skill, design.skill + np.resize(OTHER, len(design.skill))])


def _rows(
    name: str, design: Design, confusions: np.ndarray, skill: np.ndarray, score: Score, true: np.ndarray, study: int
) -> Iterator[Row]:
    one, other = estimates(confusions, score, DRAWS, study)
    first = Estimate(one.values[:1], one.draws[:, :1], one.without[:, :1], (0,), one.bounds)
    true_first = float(truth(design, skill[0, 0], score))
    yield f"{name}, one seed", first.interval(), true_first
    yield f"{name}, one seed, percentiles of draws", interval(first.draws[:, 0]), true_first
    if score is macro_f1:
        yield f"{name}, one seed, cells resampled", _over_cells(confusions[0, 0], score, study), true_first
        yield f"{name}, three seeds, specimens alone", interval(one.draws.mean(axis=1)), float(true[0])
    yield f"{name}, three seeds", one.interval(), float(true[0])
    yield f"{name}, difference of two models", difference(one, other).interval(), float(true[0] - true[1])


def _over_cells(confusions: np.ndarray, score: Score, seed: int) -> Interval:
    whole = confusions.sum(axis=0)
    drawn = np.random.default_rng(seed).multinomial(whole.sum(), whole.ravel() / whole.sum(), DRAWS)
    return interval(score(class_counts(drawn.reshape(DRAWS, *whole.shape))))


class _Crossing:
    """The limit from which on the first model stays ahead."""

    def __init__(self, design: Design, both: np.ndarray) -> None:
        self.design = design
        grown = both[0] + GROWTH[:, None]
        level = grown[1:3].mean(axis=0)  # crossed between the second and the third limit
        self.skill = np.stack([grown, np.tile(level, (len(LIMITS), 1))])  # [models, limits, classes]
        first, second = (mean_truth(design, skill, macro_f1) for skill in self.skill)
        self.true = float(overtakes_at(LIMITS, first - second))

    def rows(self, rng: np.random.Generator, study: int) -> Iterator[Row]:
        shape = (2, len(LIMITS), SEEDS, len(self.design.share))
        drawn = answers(rng, self.design, self.skill[:, :, None] + rng.normal(0, OF_SEEDS, shape))
        scores = estimates(drawn.reshape(-1, *drawn.shape[2:]), macro_f1, DRAWS, study)
        leads = [difference(a, b) for a, b in zip(scores[: len(LIMITS)], scores[len(LIMITS) :], strict=True)]
        found = crossing_of(LIMITS, leads)
        yield "crossing of two curves", (found.low, found.high), self.true


class _Slopes:
    """The loss of macro-F1 per doubling of 1 + sigma, of one model."""

    def __init__(self, design: Design, both: np.ndarray) -> None:
        self.design, self.skill = design, both[0]
        many = self._of_seeds(np.random.default_rng(0), 5_000)
        self.true = float(slope(SIGMAS, np.array([truth(design, skill, macro_f1).mean() for skill in many])))

    def _of_seeds(self, rng: np.random.Generator, seeds: int) -> Float[np.ndarray, "sigmas seeds classes"]:
        """Skills of seeds, which differ on clean cells and in what they lose."""
        clean = self.skill + rng.normal(0, OF_SEEDS, (seeds, len(self.skill)))
        loss = rng.normal(LOSS, LOSS_OF_SEEDS, (seeds, 1))
        return np.asarray(clean - loss * blur_axis(SIGMAS)[:, None, None])

    def rows(self, rng: np.random.Generator, study: int) -> Iterator[Row]:
        [drawn] = answers(rng, self.design, self._of_seeds(rng, SEEDS)[None])
        scores = estimates(drawn, macro_f1, DRAWS, study)
        yield "slope over blur", combine(lambda values: slope(SIGMAS, values), scores).interval(), self.true


def best_sets(design: Design, studies: int, seed: int = 0) -> pd.DataFrame:
    """Two rows: in how many studies no equal model is called behind, and the best one is not left out."""
    rng = np.random.default_rng([seed, EQUAL])
    equal = np.tile(design.skill, (EQUAL, 1))
    ahead = equal.copy()
    ahead[0] += AHEAD
    found: dict[str, list[tuple[bool, float]]] = {}
    for study in range(studies):
        for name, skill in (("equal models, none called behind", equal), ("models, the best not left out", ahead)):
            drawn = skill[:, None] + rng.normal(0, OF_SEEDS, (EQUAL, SEEDS, len(design.share)))
            scores = dict(enumerate(estimates(simulate(rng, design, drawn), macro_f1, DRAWS, study)))
            members = best_set({str(i): score for i, score in scores.items()}).members
            right = len(members) == EQUAL if skill is equal else "0" in members
            found.setdefault(f"{EQUAL} {name}", []).append((right, np.nan))
    return _shares(found, design)


def _shares(found: dict[str, list[tuple[bool, float]]], design: Design) -> pd.DataFrame:
    rows = []
    for name, each in found.items():
        inside, width = np.array(each, float).T
        covers = inside.mean()
        row = {"specimens": design.name, "interval": name, "covers": covers}
        row |= {"error": np.sqrt(covers * (1 - covers) / len(each)), "studies": len(each)}
        rows.append(row | {"width": np.nan if np.isnan(width).all() else np.nanmean(width)})
    return pd.DataFrame(rows)


def _doublings(low: float, high: float) -> float:
    return float(np.log2(high / low)) if low > 0 and high < np.inf else np.nan


def designs_of_runs(runs: Sequence[Path]) -> list[Design]:
    """The design of each data set: of the best model, at the flag_limit that most models have."""
    designs = []
    for data, groups in data_sets(group_by_seed(read_results(*runs))).items():
        best = max(at_one_limit(groups), key=lambda group: group.estimate(CLEAN, macro_f1).mean)
        designs.append(design_of(f"{best.n_specimens} of {data}", best.runs[0].confusions[CLEAN]))
    return designs


def our_designs() -> list[Design]:
    """Few and many specimens; 57 with a class in two, five, ten and half of them."""
    return [
        *(mixed_design(specimens) for specimens in (5, 10, 20, 57, 120)),
        *(rare_design(57, present) for present in (2, 5, 10)),
        rare_design(57, 28, uneven=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/coverage.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUNS", nargs="*", type=Path, help="folders of runs, runs, or packed runs")
    parser.add_argument("--studies", type=int, default=1000)
    options = parser.parse_args()
    try:
        designs = designs_of_runs(options.runs) if options.runs else our_designs()
        parts = [part(design, options.studies) for design in designs for part in (coverage, best_sets)]
    except ValueError as error:
        sys.exit(f"error: {error}")
    table = pd.concat(parts, ignore_index=True)
    shares = zip(table["covers"], table["error"], strict=True)
    shown = pd.DataFrame(
        {
            "test specimens": table["specimens"],
            "95 % interval of": table["interval"],
            "covers": [f"{100 * share:.1f} ± {100 * error:.1f} %" for share, error in shares],
            "width": ["-" if np.isnan(width) else f"{width:.3f}" for width in table["width"]],
        }
    )
    write_table(Path("tables/coverage"), table, shown)
    print(shown.to_string(index=False))


if __name__ == "__main__":
    main()
