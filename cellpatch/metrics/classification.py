"""Metrics of stored predictions: pure functions of labels and probabilities.

Accuracy, F1, MCC and AUROC are scikit-learn's. The calibration metrics are ours, because stored scores must stay equal
to 1e-6 on hard inputs; their docstrings state where libraries differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

ECE_BINS = 15  # equal-width bins of the highest probability, as in Guo et al., arXiv 1706.04599
_MIN_PROBABILITY = np.finfo(np.float32).tiny  # stands in for a probability of zero in a logarithm


@dataclass(frozen=True)
class Costs:
    """What an error costs: `factor` for a confusion among `classes`, 1 for any other error.

    Without classes the cost-weighted error is not reported. Raises ValueError for a single class, or a factor that is
    below 1 or not finite.
    """

    classes: list[str]
    factor: float

    def __post_init__(self) -> None:
        if len(self.classes) == 1 or not 1 <= self.factor < float("inf"):
            raise ValueError(
                f"data.costs.classes must name none or several and factor be finite and >= 1, "
                f"but got {self.classes} and {self.factor}"
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
class ReliabilityBin:
    """Cells of one bin of confidence: how many, their mean confidence, the share whose predicted class is right."""

    n: int
    confidence: float
    accuracy: float


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

    NaN if only one class has cells.
    """
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    return float(np.mean([roc_auc_score(labels == code, probabilities[:, code]) for code in present]))


def negative_log_likelihood(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean of -log p of the true class, in nats; p is at least the smallest normal 32-bit float (1.2e-38).

    scikit-learn's `log_loss` clips at the resolution of the type instead, 1.2e-7 in 32 bits: an impossible true class
    costs 16 nats there and 87 here, and probabilities of 1e-30 are all equal. It also warns if rows do not sum to 1.
    """
    of_true_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_true_class, _MIN_PROBABILITY)).mean())


def brier(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean squared distance of the probabilities to the one-hot label, summed over classes; in [0, 2] (Brier, 1950).

    scikit-learn's `brier_score_loss` gives equal numbers. It warns if 32-bit rows do not sum exactly to 1, and raises
    for a probability that rounding lifted above 1.
    """
    one_hot = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities.astype(np.float64) - one_hot) ** 2).sum(axis=1).mean())


def selective_accuracy(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], coverage: float
) -> float:
    """Accuracy on the share `coverage` of the cells with the highest confidence, one cell at least.

    Ties keep the order of the cells.
    """
    kept = np.argsort(-probabilities.max(axis=1), kind="stable")[: max(1, round(coverage * len(labels)))]
    return float((probabilities[kept].argmax(axis=1) == labels[kept]).mean())


def fit_temperature(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """The temperature in [0.05, 20] with the lowest negative log likelihood (Guo et al., arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar  # takes half a second to import, and reading a config does not need it

    minimum = minimize_scalar(
        lambda log_t: negative_log_likelihood(labels, scale(probabilities, float(np.exp(log_t)))),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(minimum.x))


def scale(probabilities: Float[np.ndarray, "n classes"], temperature: float) -> Float[np.ndarray, "n classes"]:
    """Probabilities whose logits are divided by a temperature > 0: p^(1/t), normalised to a sum of 1."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _MIN_PROBABILITY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expected_calibration_error(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by cells; in [0, 1].

    Formula: Guo et al., arXiv 1706.04599. torchmetrics' `multiclass_calibration_error` differs in three ways. It sums
    in 32 bits. It puts a confidence on a bin's border into the bin that rounding in 32 bits gives. It takes all
    probabilities for logits if rounding lifted one of them above 1.
    """
    confidence, correct, bin_of_cell = _binned(labels, probabilities, bins)
    gaps = np.bincount(bin_of_cell, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int = ECE_BINS
) -> list[ReliabilityBin]:
    """The bins of `expected_calibration_error` that have cells, by rising confidence."""
    confidence, correct, bin_of_cell = _binned(labels, probabilities, bins)
    n = np.bincount(bin_of_cell, minlength=bins)
    sums = [np.bincount(bin_of_cell, weights=values, minlength=bins) for values in (confidence, correct)]
    return [ReliabilityBin(int(n[i]), float(sums[0][i] / n[i]), float(sums[1][i] / n[i])) for i in np.flatnonzero(n)]


def _binned(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Each cell's confidence, whether its predicted class is right, and its bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    return (
        confidence,
        probabilities.argmax(axis=1) == labels,
        np.minimum((confidence * bins).astype(int), bins - 1),
    )


def confusion(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, "classes classes"]:
    """Number of cells; rows are true classes, columns are predicted ones."""
    from sklearn.metrics import confusion_matrix

    codes = np.arange(probabilities.shape[1])
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=codes)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
