"""Metrics of stored predictions: pure functions of labels and probabilities.

F1, MCC and the confusion matrix are scikit-learn's, AUROC equals its; those of calibration are in
`cellpatch.metrics.calibration`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from cellpatch.metrics.calibration import (
    ReliabilityBin,
    brier,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    scale,
)


@dataclass(frozen=True)
class Costs:
    """What an error costs: `factor` for a confusion among `classes`, 1 for any other error.

    Without classes the cost-weighted error is not reported. Raises ValueError for a single class, or a factor that is
    below 1 or not finite.
    """

    classes: list[str]
    factor: float

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or len(self.classes) == 1 or not 1 <= self.factor < float("inf"):
            raise ValueError(
                f"data.costs.classes must name none or several and factor be finite and >= 1, "
                f"but got {self.classes!r} and {self.factor}"
            )

    def codes(self, classes: Sequence[str]) -> list[int]:
        """Indices of the named classes among `classes`; raises ValueError for an unknown name."""
        unknown = sorted(set(self.classes) - set(classes))
        if unknown:
            raise ValueError(f"data.costs.classes must be of {list(classes)}, but has {unknown}")
        return [classes.index(name) for name in self.classes]

    def error(
        self, labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], classes: Sequence[str]
    ) -> float:
        """Mean cost per cell; raises ValueError as `codes`."""
        costly, predicted = self.codes(classes), probabilities.argmax(axis=1)
        among = np.isin(labels, costly) & np.isin(predicted, costly)
        return float(np.where(predicted == labels, 0.0, np.where(among, self.factor, 1.0)).mean())


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class, in [0, 1].

    All are None for a class without test cells. Precision is also None for a class that was never predicted.
    """

    n_test: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Scores:
    """Scores under one condition.

    All are in [0, 1] but `mcc` in [-1, 1], `brier` in [0, 2] and `nll` in nats. Balanced accuracy, macro-F1 and AUROC
    (one against the rest) are means over the classes that have a test cell; `auroc` is None with a single one. `ece`,
    `nll` and `brier` use the probabilities as they are, `..._scaled` those after temperature scaling. `accuracy_at_80`
    covers the 80 % of the cells with the highest confidence. `cost_weighted_error` is None unless costs name classes.
    Rows of `confusion` are true classes, columns are predicted ones. `reliability` has the bins that `ece` sums over,
    without empty ones; None in runs before 0.4.0.
    """

    n_test: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    mcc: float
    auroc: float | None
    ece: float
    nll: float
    brier: float
    ece_scaled: float
    nll_scaled: float
    brier_scaled: float
    accuracy_at_80: Annotated[float, Field(alias="accuracy_at_0.8")]
    accuracy_at_90: Annotated[float, Field(alias="accuracy_at_0.9")]
    confusion: list[list[int]]
    per_class: dict[str, ClassScores]
    cost_weighted_error: float | None = None
    reliability: list[ReliabilityBin] | None = None


def score_predictions(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    classes: Sequence[str],
    temperature: float,
    costs: Costs | None = None,
) -> Scores:
    """Scores of one condition's predictions; `temperature` was fitted on clean validation cells."""
    from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support  # takes a second to import

    predicted = probabilities.argmax(axis=1)
    codes = np.arange(len(classes))
    precision, recall, f1, n = precision_recall_fscore_support(labels, predicted, labels=codes, zero_division=np.nan)
    present = n > 0
    f1 = np.where(present, np.nan_to_num(f1), np.nan)
    scaled = scale(probabilities, temperature)
    return Scores(
        n_test=len(labels),
        accuracy=float((predicted == labels).mean()),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        mcc=float(matthews_corrcoef(labels, predicted)),
        auroc=_none_if_nan(auroc(labels, probabilities)),
        ece=expected_calibration_error(labels, probabilities),
        nll=negative_log_likelihood(labels, probabilities),
        brier=brier(labels, probabilities),
        ece_scaled=expected_calibration_error(labels, scaled),
        nll_scaled=negative_log_likelihood(labels, scaled),
        brier_scaled=brier(labels, scaled),
        accuracy_at_80=selective_accuracy(labels, probabilities, 0.8),
        accuracy_at_90=selective_accuracy(labels, probabilities, 0.9),
        cost_weighted_error=costs.error(labels, probabilities, classes) if costs and costs.classes else None,
        reliability=reliability(labels, probabilities),
        confusion=confusion(labels, probabilities).tolist(),
        per_class={
            name: ClassScores(
                n_test=int(n[i]),
                precision=_none_if_nan(precision[i]),
                recall=_none_if_nan(recall[i]) if present[i] else None,
                f1=_none_if_nan(f1[i]),
            )
            for i, name in enumerate(classes)
        },
    )


def auroc(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Area under the ROC curve, one class against the rest, as a mean over the classes that have a cell; in [0, 1].

    NaN if only one class has cells. Raises ValueError for probabilities that are not finite.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite")
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    return float(np.mean([_area_under_roc(labels == code, probabilities[:, code]) for code in present]))


def _area_under_roc(positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """scikit-learn's `roc_auc_score` to the last bit, without its checks, which take 2 ms a class.

    Cells that are not all positive, nor all negative. Points of the curve on a straight line are left out as it does.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    hits = np.cumsum(positive[order], dtype=np.float64)[last]
    errors = 1 + last - hits
    corners = np.ones(len(last), bool)
    corners[1:-1] = (np.diff(hits, 2) != 0) | (np.diff(errors, 2) != 0)
    hits, errors = (np.append(0.0, counts[corners]) for counts in (hits, errors))
    return float(np.trapezoid(hits / hits[-1], errors / errors[-1]))


def selective_accuracy(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], coverage: float
) -> float:
    """Accuracy on the share `coverage` of the cells with the highest confidence, one cell at least.

    Ties keep the order of the cells.
    """
    kept = np.argsort(-probabilities.max(axis=1), kind="stable")[: max(1, round(coverage * len(labels)))]
    return float((probabilities[kept].argmax(axis=1) == labels[kept]).mean())


def confusion(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, "classes classes"]:
    """Number of cells; rows are true classes, columns are predicted ones."""
    from sklearn.metrics import confusion_matrix

    codes = np.arange(probabilities.shape[1])
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=codes)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
