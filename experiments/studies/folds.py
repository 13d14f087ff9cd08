"""One split or five folds: how often do 95 % intervals of macro-F1 cover the true value, and how wide are they?

    python experiments/studies/folds.py        # tables/folds.csv, .md, .tex

simulated_study.py draws the specimens. Each fold and each seed has a network of its own, whose skill differs on each
class as that of seeds does. One split tests the first fold alone. With one seed the true value is the mean of the true
scores of the networks that were tested, with three it is the mean over all networks there are. `width` is a mean.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from simulated_study import OF_SEEDS, Design, answers, estimates, mean_truth, mixed_design, truth

from cellpatch.analysis.estimates import Estimate
from cellpatch.figures.tables import write_table
from cellpatch.metrics.scores import macro_f1

FOLDS, SEEDS, DRAWS = 5, 3, 1000
SPECIMENS = (20, 57, 120)


def coverage(design: Design, studies: int, seed: int = 0) -> pd.DataFrame:
    """A row a kind of interval: how often it covered the true value, and its mean width."""
    rng = np.random.default_rng(seed)
    of_method = float(mean_truth(design, design.skill, macro_f1)[0])
    found: dict[str, list[tuple[bool, float]]] = {}
    for study in range(studies):
        skill = design.skill + rng.normal(0, OF_SEEDS, (FOLDS, SEEDS, len(design.share)))
        by_fold = answers(rng, design, skill[None])[0]  # [folds, seeds, specimens, classes, classes]
        fold_of = rng.permutation(np.arange(by_fold.shape[2]) % FOLDS)
        pooled = pool(by_fold, fold_of)
        split = by_fold[0][:, fold_of == 0]
        true = truth(design, skill, macro_f1)  # [folds, seeds]
        for name, confusions, of_first in (("one split", split, true[0, 0]), ("five folds", pooled, true[:, 0].mean())):
            if (confusions.sum(axis=(0, 1, 3)) == 0).any():
                continue  # a class without a test cell: such a split is refused
            [score] = estimates(confusions[None], macro_f1, DRAWS, study)
            first = Estimate(score.values[:1], score.draws[:, :1], score.without[:, :1], (0,), score.bounds)
            for seeds, estimate, value in (("one seed", first, of_first), ("three seeds", score, of_method)):
                low, high = estimate.interval()
                found.setdefault(f"{name}, {seeds}", []).append((bool(low <= value <= high), high - low))
    rows = []
    for interval, each in found.items():
        inside, width = np.array(each, float).T
        covers = inside.mean()
        error = np.sqrt(covers * (1 - covers) / len(each))
        row = {"specimens": design.name, "interval": interval, "covers": covers, "error": error}
        rows.append(row | {"studies": len(each), "width": width.mean()})
    return pd.DataFrame(rows)


def pool(
    by_fold: Int[np.ndarray, "folds seeds specimens classes classes"], fold_of: Int[np.ndarray, " specimens"]
) -> Int[np.ndarray, "seeds specimens classes classes"]:
    """Each specimen's answers by the network of its fold."""
    return np.moveaxis(by_fold, 1, 0)[:, fold_of, np.arange(len(fold_of))]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/folds.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=1000)
    options = parser.parse_args()
    table = pd.concat([coverage(mixed_design(n), options.studies) for n in SPECIMENS], ignore_index=True)
    shown = pd.DataFrame(
        {
            "specimens": table["specimens"],
            "95 % interval of macro-F1": table["interval"],
            "covers": [
                f"{100 * a:.1f} ± {100 * b:.1f} %" for a, b in zip(table["covers"], table["error"], strict=True)
            ],
            "width": [f"{width:.3f}" for width in table["width"]],
        }
    )
    write_table(Path("tables/folds"), table, shown)
    print(shown.to_string(index=False))


if __name__ == "__main__":
    main()
