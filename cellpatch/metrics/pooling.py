"""Scores of several disjoint test sets as those of one."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from cellpatch.metrics.calibration import bins_gap, pool_bins
from cellpatch.metrics.classification import ClassScores, Scores


def pool_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of all cells together, where each part has cells of its own.

    What follows from confusion matrices, bins of confidence or means over cells is exact. AUROC, the calibration error
    after scaling, and accuracy on the most confident cells compare cells of one part alone: they are means over parts,
    weighted by cells, None if they are for a part.
    """
    cells = np.array([part.n_test for part in parts], float)

    def mean(of: Callable[[Scores], float]) -> float:
        return float(np.average([of(part) for part in parts], weights=cells))

    def mean_if_known(of: Callable[[Scores], float | None]) -> float | None:
        known = [value for part in parts if (value := of(part)) is not None]
        return float(np.average(known, weights=cells)) if len(known) == len(parts) else None

    confusion = np.sum([part.confusion for part in parts], axis=0)
    per_class = _per_class(confusion, list(parts[0].per_class))
    tested = [each for each in per_class.values() if each.n_test]
    bins = [part.reliability for part in parts if part.reliability is not None]
    pooled = pool_bins([each for part in bins for each in part]) if len(bins) == len(parts) else None
    return Scores(
        n_test=int(cells.sum()),
        accuracy=float(np.trace(confusion) / confusion.sum()),
        balanced_accuracy=float(np.mean([each.recall for each in tested])),
        macro_f1=float(np.mean([each.f1 for each in tested])),
        mcc=matthews(confusion),
        auroc=mean_if_known(lambda part: part.auroc),
        ece=mean(lambda part: part.ece) if pooled is None else bins_gap(pooled),
        nll=mean(lambda part: part.nll),
        brier=mean(lambda part: part.brier),
        ece_scaled=mean(lambda part: part.ece_scaled),
        nll_scaled=mean(lambda part: part.nll_scaled),
        brier_scaled=mean(lambda part: part.brier_scaled),
        accuracy_at_80=mean(lambda part: part.accuracy_at_80),
        accuracy_at_90=mean(lambda part: part.accuracy_at_90),
        confusion=confusion.tolist(),
        per_class=per_class,
        cost_weighted_error=mean_if_known(lambda part: part.cost_weighted_error),
        reliability=pooled,
    )


def matthews(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """The correlation of true and predicted classes, in [-1, 1]; 0 if one of them is constant (Gorodkin, 2004)."""
    n, correct = float(confusion.sum()), float(np.trace(confusion))
    true, predicted = confusion.sum(axis=1).astype(float), confusion.sum(axis=0).astype(float)
    spread = (n**2 - true @ true) * (n**2 - predicted @ predicted)
    return float((correct * n - true @ predicted) / np.sqrt(spread)) if spread > 0 else 0.0


def _per_class(confusion: Int[np.ndarray, "classes classes"], names: Sequence[str]) -> dict[str, ClassScores]:
    scores = {}
    for code, name in enumerate(names):
        correct, true, predicted = int(confusion[code, code]), int(confusion[code].sum()), int(confusion[:, code].sum())
        scores[name] = ClassScores(
            n_test=true,
            precision=correct / predicted if predicted else None,
            recall=correct / true if true else None,
            f1=2 * correct / (true + predicted) if true else None,
        )
    return scores
