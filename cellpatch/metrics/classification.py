"""Metrics of stored predictions: pure functions of labels and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

ECE_BINS = 15  # equal-width bins of the highest probability, as in Guo et al., arXiv 1706.04599
_LEAST = np.finfo(np.float32).tiny  # what a probability of zero counts as in a logarithm


@dataclass(frozen=True)
class Costs:
    """What an error costs: `factor` for a confusion among the named classes, 1 for any other; no class: not told."""

    classes: list[str]
    factor: float

    def __post_init__(self) -> None:
        if len(self.classes) == 1 or not 1 <= self.factor < float("inf"):
            raise ValueError(
                f"data.costs.classes must name none or several and factor be finite and >= 1, "
                f"but got {self.classes} and {self.factor}"
            )

    def codes(self, classes: Sequence[str]) -> list[int]:
        """Places of the named classes; raises ValueError if one is not of the study's."""
        unknown = sorted(set(self.classes) - set(classes))
        if unknown:
            raise ValueError(f"data.costs.classes must be of {list(classes)}, but has {unknown}")
        return [classes.index(name) for name in self.classes]

    def error(
        self, labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], classes: Sequence[str]
    ) -> float:
        """Mean cost of a cell; raises ValueError as `codes`."""
        costly, predicted = self.codes(classes), probabilities.argmax(axis=1)
        among = np.isin(labels, costly) & np.isin(predicted, costly)
        return float(np.where(predicted == labels, 0.0, np.where(among, self.factor, 1.0)).mean())


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class, in [0, 1]; None where it has no test cell, precision also where it was never predicted."""

    n_test: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of one condition, in [0, 1] but `mcc` in [-1, 1], `brier` in [0, 2], `nll` in nats.

    Means over classes (balanced accuracy, macro-F1, macro AUROC one against the rest) cover the classes that have a
    test cell. `ece`, `nll` and `brier` are of the probabilities as they are, `..._scaled` after temperature scaling.
    `accuracy_at_80` is that of the 80 % of the cells with the highest confidence. `cost_weighted_error` is None unless
    costs name classes. Rows of `confusion` are true classes, columns predicted ones.
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


def score_predictions(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    classes: Sequence[str],
    temperature: float,
    costs: Costs | None = None,
) -> Scores:
    """Scores of one condition's predictions; `temperature` was fitted on clean validation cells."""
    from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support  # a second to import

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
    """Mean over the present classes of the area under the ROC curve, one against the rest; NaN for a single class."""
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    return float(np.mean([roc_auc_score(labels == code, probabilities[:, code]) for code in present]))


def negative_log_likelihood(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean of -log p of the true class, in nats; a probability of zero counts as the least positive float."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, _LEAST)).mean())


def brier(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean squared distance of the probabilities to the truth, summed over classes; in [0, 2] (Brier, 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities.astype(np.float64) - truth) ** 2).sum(axis=1).mean())


def selective_accuracy(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], coverage: float
) -> float:
    """Accuracy of the share `coverage` of the cells that the model is surest of; ties keep their order."""
    kept = np.argsort(-probabilities.max(axis=1), kind="stable")[: max(1, round(coverage * len(labels)))]
    return float((probabilities[kept].argmax(axis=1) == labels[kept]).mean())


def fit_temperature(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """The temperature in [0.05, 20] with the least negative log likelihood (Guo et al., arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar  # half a second, and reading a config does without

    found = minimize_scalar(
        lambda log: negative_log_likelihood(labels, scale(probabilities, float(np.exp(log)))),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def scale(probabilities: Float[np.ndarray, "n classes"], temperature: float) -> Float[np.ndarray, "n classes"]:
    """Probabilities after their logits were divided by a temperature > 0: p^(1/t), normalised."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expected_calibration_error(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by cells; in [0, 1]."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confusion(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, "classes classes"]:
    """Counts; rows are true classes, columns predicted ones."""
    from sklearn.metrics import confusion_matrix

    codes = np.arange(probabilities.shape[1])
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=codes)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
