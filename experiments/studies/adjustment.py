"""Would logit adjustment after training help runs that were trained without it? Judged on validation cells alone.

    python experiments/studies/adjustment.py runs          # Markdown: a row a run; no training, some seconds

tau is chosen on half of a run's validation specimens, by macro-F1, and judged on the other half, in 20 draws: `gain` is
the mean change of macro-F1 there, `±` its standard deviation over draws. `whole` is macro-F1 on all validation cells at
each tau of TAUS, tau 0 being the run as it is. Runs with another `adapt.balance` than none are left out.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.figures.tables import to_markdown
from cellpatch.metrics.classification import confusion
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.folders import require_runs
from cellpatch.runs.stored_run import StoredRun

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
DRAWS = 20


def adjust(
    probabilities: Float[np.ndarray, "n classes"], prior: Float[np.ndarray, " classes"], tau: float
) -> Float[np.ndarray, "n classes"]:
    """Probabilities over prior^tau, not normalised (Menon et al., arXiv 2007.07314): their order is what counts."""
    return probabilities / prior**tau


def gains(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    prior: Float[np.ndarray, " classes"],
    specimens: np.ndarray,
    seed: int = 0,
) -> Float[np.ndarray, " draws"]:
    """What the tau chosen on half of the specimens changes on the other half, in each draw; none of one specimen."""
    rng = np.random.default_rng(seed)
    names = np.unique(specimens)
    if len(names) < 2:
        return np.empty(0)
    found = []
    for _ in range(DRAWS):
        chosen = np.isin(specimens, rng.permutation(names)[: len(names) // 2])
        scores = [_score(labels[chosen], adjust(probabilities[chosen], prior, tau)) for tau in TAUS]
        best = TAUS[int(np.argmax(scores))]
        before, after = (_score(labels[~chosen], adjust(probabilities[~chosen], prior, tau)) for tau in (0.0, best))
        found.append(after - before)
    return np.array(found)


def _score(labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n classes"]) -> float:
    return float(macro_f1(class_counts(confusion(labels, scores))))


def row_of(run: StoredRun) -> dict[str, str | int]:
    """The row of a run."""
    record, validated = run.record, run.validation[CLEAN]
    counts = np.array([record.counts["train"][name] for name in record.classes], float)
    prior = counts / counts.sum()
    labels, probabilities = validated.labels, validated.probabilities.astype(float)
    changes = gains(labels, probabilities, prior, validated.rows["specimen"].to_numpy())
    whole = [_score(labels, adjust(probabilities, prior, tau)) for tau in TAUS]
    settings = record.settings
    return {
        "model": settings.model.name,
        "data": settings.data.name,
        "limit": settings.flag_limit,
        "seed": settings.seed,
        "whole": " ".join(f"{score:.3f}" for score in whole),
        "gain": f"{changes.mean():+.3f} ± {changes.std():.3f}" if len(changes) else "one specimen",
    }


def _is_unbalanced(run: StoredRun) -> bool:
    adapt = run.record.settings.config["adapt"]
    return isinstance(adapt, dict) and adapt.get("balance") == "none"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/adjustment.py", description="Try logit adjustment on stored runs."
    )
    parser.add_argument("runs", nargs="+", type=Path, help="runs, or folders of runs")
    try:
        runs = [StoredRun.open(path) for path in require_runs(parser.parse_args().runs)]
    except ValueError as error:
        sys.exit(f"error: {error}")
    unbalanced = [run for run in runs if _is_unbalanced(run)]
    if not unbalanced:
        sys.exit("error: no run was trained with adapt.balance=none")
    print(to_markdown(pd.DataFrame([row_of(run) for run in unbalanced])))


if __name__ == "__main__":
    main()
