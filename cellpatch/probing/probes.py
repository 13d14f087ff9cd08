"""Classifiers on the features of a frozen backbone; validation cells decide their settings."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from pydantic import JsonValue, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from cellpatch.metrics.prior import ClassPrior, class_prior
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.probing.heads import KNNHead, PrototypeHead
from cellpatch.probing.logistic import (
    ClassIndices,
    FeatureMatrix,
    fit_logistic,
    principal_components,
    standardise,
    unstandardise,
)

Setting = TypeVar("Setting", int, float)
TrainingCells = tuple[FeatureMatrix, ClassIndices]
ValidationCells = tuple[Float[Tensor, "m d"], Int[Tensor, " m"]]


@dataclass(frozen=True, kw_only=True)
class ProbeChoice:
    """What validation cells decided: one of `strength` (L2), `k` and `temperature`, and the macro-F1 reached with it.

    `tried` is the macro-F1 of each setting, in the order of the trials. It is empty where a loss decides.
    """

    strength: float | None = None
    k: int | None = None
    temperature: float | None = None
    val_macro_f1: float
    tried: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, JsonValue]:
        """As a run's record stores it, under `probe`."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}

    @classmethod
    def from_json(cls, stored: dict[str, JsonValue]) -> "ProbeChoice":
        """What `as_json` returned; raises ValueError that names a missing key or a value of another type."""
        try:
            return _CHOICE.validate_json(json.dumps(stored), strict=True)  # as Python, strict takes no dict
        except ValidationError as error:
            raise ValueError(f"probe: {error}") from error


_CHOICE = TypeAdapter(ProbeChoice)  # built once: a schema, not state


class FittedProbe(NamedTuple):
    """A head that maps [b, d] features to [b, classes] logits, and what was chosen for it."""

    head: nn.Module
    choice: ProbeChoice


class Probe(ABC):
    """A classifier on features of a frozen backbone; `augmented_copies` of each training cell join the cell itself."""

    pretrained: ClassVar[bool] = True
    counts_matter: ClassVar[bool] = True  # more training cells of a class make it more probable
    augmented_copies: int

    def prior(self, counts: Sequence[int]) -> ClassPrior:
        """The prior that the probabilities presume, after a fit to `counts` training cells of each class."""
        return class_prior(counts, 0.0 if self.counts_matter else 1.0)

    @abstractmethod
    def fit(self, train: TrainingCells, validation: ValidationCells, n_classes: int) -> FittedProbe:
        """Fit on training cells and choose on validation cells."""

    @abstractmethod
    def head(self, state: Mapping[str, Tensor], choice: ProbeChoice, n_classes: int) -> nn.Module:
        """The head again, from its tensors and what was chosen."""


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Probe):
    """Multinomial logistic regression on standardised features, with the best L2 penalty of `l2_grid`.

    A penalty s adds s/2 times the squared norm of the weights to the mean loss: scikit-learn's C = 1 / (s n). The path
    goes from the strongest to the weakest penalty. Each fit starts from the last one and takes at most `path_steps`
    steps. After a first rise the path ends when `patience` penalties bring no better validation macro-F1. The chosen
    penalty is then fitted to convergence. Cells weigh the same and biases carry no penalty, so the mean probability
    over the training cells is their class frequency. Raises ValueError for a value out of its range.
    """

    l2_grid: list[float]
    path_steps: int
    patience: int
    augmented_copies: int

    def __post_init__(self) -> None:
        least = min(self.patience, self.path_steps)
        if not self.l2_grid or min(self.l2_grid) <= 0 or least < 1 or self.augmented_copies < 0:
            raise ValueError(
                f"adapt.l2_grid must be > 0, path_steps and patience >= 1 and augmented_copies >= 0, "
                f"but got {self.l2_grid}, {self.path_steps}, {self.patience} and {self.augmented_copies}"
            )

    def fit(self, train: TrainingCells, validation: ValidationCells, n_classes: int) -> FittedProbe:
        standardised, mean, std = standardise(train[0])
        x, axes = principal_components(standardised)
        weights = {}

        def head_of(weight: Tensor) -> nn.Linear:
            return unstandardise(torch.cat([weight[:, :-1] @ axes.T, weight[:, -1:]], dim=1), mean, std)

        def candidates() -> Iterable[tuple[float, nn.Module]]:
            weight = x.new_zeros(n_classes, x.shape[1] + 1)
            for l2 in sorted(self.l2_grid, reverse=True):
                weights[l2] = weight = fit_logistic(x, train[1], weight, l2, self.path_steps)
                yield l2, head_of(weight)

        best = _select(candidates(), validation, self.patience)
        head = head_of(fit_logistic(x, train[1], weights[best.setting], best.setting))
        score = _macro_f1(head, validation)
        return FittedProbe(head, ProbeChoice(strength=best.setting, val_macro_f1=score, tried=best.tried))

    def head(self, state: Mapping[str, Tensor], choice: ProbeChoice, n_classes: int) -> nn.Module:
        linear = nn.Linear(state["weight"].shape[1], n_classes)
        linear.load_state_dict(dict(state))
        return linear


@dataclass(frozen=True, kw_only=True)
class KNNProbe(Probe):
    """The vote of the k most similar training cells (cosine), weighted by exp(similarity / temperature).

    k is the best of `ks`. The weights are those of Wu et al., arXiv 1805.01978, who use k 200 and temperature 0.07.
    Frequent classes have more neighbours to vote. Raises ValueError for a value out of its range.
    """

    ks: list[int]
    temperature: float
    augmented_copies: int

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or self.temperature <= 0 or self.augmented_copies < 0:
            raise ValueError(
                f"adapt.ks must be >= 1, temperature > 0 and augmented_copies >= 0, "
                f"but got {self.ks}, {self.temperature} and {self.augmented_copies}"
            )

    def fit(self, train: TrainingCells, validation: ValidationCells, n_classes: int) -> FittedProbe:
        usable = sorted({min(k, len(train[1])) for k in self.ks})
        heads = ((k, KNNHead(*train, n_classes, k, self.temperature)) for k in usable)
        best = _select(heads, validation, len(usable))
        return FittedProbe(best.head, ProbeChoice(k=best.setting, val_macro_f1=best.score, tried=best.tried))

    def head(self, state: Mapping[str, Tensor], choice: ProbeChoice, n_classes: int) -> nn.Module:
        assert choice.k is not None
        return KNNHead(state["directions"], state["labels"], n_classes, choice.k, self.temperature)


@dataclass(frozen=True, kw_only=True)
class Prototypes(Probe):
    """The class whose mean direction is nearest (cosine), with the best softmax temperature of `temperatures`.

    The temperature changes no prediction, so the lowest validation loss decides. A class is its mean alone, however
    many cells it has. Raises ValueError for a value out of its range.
    """

    counts_matter: ClassVar[bool] = False
    temperatures: list[float]
    augmented_copies: int

    def __post_init__(self) -> None:
        if not self.temperatures or min(self.temperatures) <= 0 or self.augmented_copies < 0:
            raise ValueError(
                f"adapt.temperatures must be > 0 and augmented_copies >= 0, "
                f"but got {self.temperatures} and {self.augmented_copies}"
            )

    def fit(self, train: TrainingCells, validation: ValidationCells, n_classes: int) -> FittedProbe:
        directions = normalize(train[0], dim=1)
        members = one_hot(train[1], n_classes).to(directions)
        means = normalize(members.T @ directions, dim=1)
        heads = [(t, PrototypeHead(means, t)) for t in self.temperatures]
        with torch.no_grad():
            temperature, head = min(heads, key=lambda pair: float(cross_entropy(pair[1](validation[0]), validation[1])))
            score = _macro_f1(head, validation)
        return FittedProbe(head, ProbeChoice(temperature=temperature, val_macro_f1=score))

    def head(self, state: Mapping[str, Tensor], choice: ProbeChoice, n_classes: int) -> nn.Module:
        assert choice.temperature is not None
        return PrototypeHead(state["means"], choice.temperature)


@dataclass(frozen=True)
class _Selected(Generic[Setting]):
    setting: Setting
    head: nn.Module
    score: float
    tried: dict[str, float]


def _select(
    candidates: Iterable[tuple[Setting, nn.Module]], validation: TrainingCells, patience: int
) -> _Selected[Setting]:
    """The first candidate with the highest validation macro-F1, and the score of each that was tried.

    Patience counts from the first rise: under strong penalties every head predicts the largest class, and scores tie.
    """
    best: tuple[Setting, nn.Module] | None = None
    highest, since, rises = -1.0, 0, 0
    tried = {}
    for setting, head in candidates:
        tried[str(setting)] = score = _macro_f1(head, validation)
        since += 1
        if score > highest:
            best, highest, since, rises = (setting, head), score, 0, rises + 1
        if rises > 1 and since >= patience:
            break
    assert best is not None
    return _Selected(*best, highest, tried)


def _macro_f1(head: Callable[[FeatureMatrix], Tensor], cells: TrainingCells) -> float:
    """As in a run's record: the mean over the classes that have a cell here."""
    with torch.no_grad():
        logits = torch.cat([head(part) for part in cells[0].split(4096)])
    flat = cells[1] * logits.shape[1] + logits.argmax(dim=1)
    counts = torch.bincount(flat, minlength=logits.shape[1] ** 2).view(2 * logits.shape[1:])
    return float(macro_f1(class_counts(counts.cpu().numpy())))
