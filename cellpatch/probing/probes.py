"""Classifiers on the features of a frozen backbone: what is chosen is chosen on validation cells."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.probing.logistic import Features, Labels, fit_logistic, principal, standardise, unstandardise

Cells = tuple[Features, Labels]
Others = tuple[Float[Tensor, "m d"], Int[Tensor, " m"]]


class Probe(ABC):
    """What is fitted to the features of a frozen backbone; `views` augmented copies join each training cell."""

    pretrained: ClassVar[bool] = True
    views: int

    @abstractmethod
    def fit(self, train: Cells, validation: Others, n_classes: int) -> tuple[nn.Module, dict[str, Any]]:
        """A head, [b, d] features to [b, classes] logits, and what was chosen for it."""

    @abstractmethod
    def head(self, state: Mapping[str, Tensor], chosen: Mapping[str, Any], n_classes: int) -> nn.Module:
        """The head again, of its tensors and what was chosen."""


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Probe):
    """Multinomial logistic regression on standardised features; its L2 strength is the best of `strengths`.

    A strength s adds s/2 times the squared norm of the weights to the mean loss: scikit-learn's
    C = 1 / (s n). The path goes from the strongest to the weakest, each fit of a few steps starting from the last,
    and ends when, after a first rise, `patience` strengths brought no better validation macro-F1; the chosen one is
    fitted to the end. Each fit on the path is of `path_steps` steps at most. `views` augmented copies of each training
    cell join the cell itself.
    """

    strengths: list[float]
    path_steps: int
    patience: int
    views: int

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0 or min(self.patience, self.path_steps) < 1 or self.views < 0:
            raise ValueError(
                f"adapt.strengths must be > 0, path_steps and patience >= 1 and views >= 0, "
                f"but got {self.strengths}, {self.path_steps}, {self.patience} and {self.views}"
            )

    def fit(self, train: Cells, validation: Others, n_classes: int) -> tuple[nn.Module, dict[str, Any]]:
        standardised, mean, std = standardise(train[0])
        x, axes = principal(standardised)
        weights = {}

        def head_of(weight: Tensor) -> nn.Linear:
            return unstandardise(torch.cat([weight[:, :-1] @ axes.T, weight[:, -1:]], dim=1), mean, std)

        def candidates() -> Iterable[tuple[float, nn.Module]]:
            weight = x.new_zeros(n_classes, x.shape[1] + 1)
            for strength in sorted(self.strengths, reverse=True):
                weights[strength] = weight = fit_logistic(x, train[1], weight, strength, self.path_steps)
                yield strength, head_of(weight)

        (strength, _), _, tried = _choose(candidates(), validation, self.patience)
        head = head_of(fit_logistic(x, train[1], weights[strength], strength))
        return head, {"strength": strength, "val_macro_f1": _macro_f1(head, validation), "tried": tried}

    def head(self, state: Mapping[str, Tensor], chosen: Mapping[str, Any], n_classes: int) -> nn.Module:
        linear = nn.Linear(state["weight"].shape[1], n_classes)
        linear.load_state_dict(dict(state))
        return linear


@dataclass(frozen=True, kw_only=True)
class KNNProbe(Probe):
    """The vote of the k most similar training cells (cosine), weighted by exp(similarity / temperature).

    k is the best of `ks`; the weights are those of Wu et al., arXiv 1805.01978 (there k 200, temperature 0.07).
    """

    ks: list[int]
    temperature: float
    views: int

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or self.temperature <= 0 or self.views < 0:
            raise ValueError(
                f"adapt.ks must be >= 1, temperature > 0 and views >= 0, "
                f"but got {self.ks}, {self.temperature} and {self.views}"
            )

    def fit(self, train: Cells, validation: Others, n_classes: int) -> tuple[nn.Module, dict[str, Any]]:
        usable = sorted({min(k, len(train[1])) for k in self.ks})
        heads = ((k, KNNHead(*train, n_classes, k, self.temperature)) for k in usable)
        best, score, tried = _choose(heads, validation, len(usable))
        return best[1], {"k": best[0], "val_macro_f1": score, "tried": tried}

    def head(self, state: Mapping[str, Tensor], chosen: Mapping[str, Any], n_classes: int) -> nn.Module:
        return KNNHead(state["directions"], state["labels"], n_classes, chosen["k"], self.temperature)


@dataclass(frozen=True, kw_only=True)
class Prototypes(Probe):
    """The class whose mean direction is nearest (cosine); the softmax's temperature is the best of `temperatures`.

    The temperature moves no decision, so it is the one with the lowest validation loss.
    """

    temperatures: list[float]
    views: int

    def __post_init__(self) -> None:
        if not self.temperatures or min(self.temperatures) <= 0 or self.views < 0:
            raise ValueError(
                f"adapt.temperatures must be > 0 and views >= 0, but got {self.temperatures} and {self.views}"
            )

    def fit(self, train: Cells, validation: Others, n_classes: int) -> tuple[nn.Module, dict[str, Any]]:
        directions = normalize(train[0], dim=1)
        members = one_hot(train[1], n_classes).to(directions)
        means = normalize(members.T @ directions, dim=1)
        heads = [(t, PrototypeHead(means, t)) for t in self.temperatures]
        with torch.no_grad():
            temperature, head = min(heads, key=lambda pair: float(cross_entropy(pair[1](validation[0]), validation[1])))
            score = _macro_f1(head, validation)
        return head, {"temperature": temperature, "val_macro_f1": score}

    def head(self, state: Mapping[str, Tensor], chosen: Mapping[str, Any], n_classes: int) -> nn.Module:
        return PrototypeHead(state["means"], chosen["temperature"])


class KNNHead(nn.Module):
    """Log of the weighted vote; keeps the training cells' directions."""

    directions: Tensor
    labels: Tensor

    def __init__(self, features: Features, labels: Labels, n_classes: int, k: int, temperature: float) -> None:
        super().__init__()
        self.register_buffer("directions", normalize(features, dim=1))
        self.register_buffer("labels", labels)
        self.n_classes = n_classes
        self.k = k
        self.temperature = temperature

    def forward(self, x: Features) -> Float[Tensor, "n classes"]:
        similarity, nearest = (normalize(x, dim=1) @ self.directions.T).topk(self.k, dim=1)
        votes = ((similarity - similarity[:, :1]) / self.temperature).exp()
        total = x.new_zeros(x.shape[0], self.n_classes).scatter_add_(1, self.labels[nearest], votes)
        return (total / total.sum(1, keepdim=True)).clamp_min(1e-6).log()


class PrototypeHead(nn.Module):
    """Cosine similarity to each class's mean direction, over a temperature."""

    means: Tensor

    def __init__(self, means: Float[Tensor, "classes d"], temperature: float) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.temperature = temperature

    def forward(self, x: Features) -> Float[Tensor, "n classes"]:
        return normalize(x, dim=1) @ self.means.T / self.temperature


def _choose(
    candidates: Iterable[tuple[Any, nn.Module]], validation: Cells, patience: int
) -> tuple[tuple[Any, nn.Module], float, dict[str, float]]:
    """The first candidate with the highest validation macro-F1, its score, and the score of each that was tried.

    Patience counts from the first rise: under strong penalties every head names the largest class, and ties.
    """
    best: tuple[Any, nn.Module] | None = None
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
    return best, highest, tried


def _macro_f1(head: Callable[[Features], Tensor], cells: Cells) -> float:
    """As in a run's record: the mean over the classes that have a cell here."""
    with torch.no_grad():
        logits = torch.cat([head(part) for part in cells[0].split(4096)])
    flat = cells[1] * logits.shape[1] + logits.argmax(dim=1)
    counts = torch.bincount(flat, minlength=logits.shape[1] ** 2).view(2 * logits.shape[1:])
    return float(macro_f1(class_counts(counts.cpu().numpy())))
