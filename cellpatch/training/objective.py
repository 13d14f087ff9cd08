"""What training by gradients minimises: the settings, and the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from cellpatch.data.batch_indices import IGNORE_INDEX
from cellpatch.metrics.prior import ClassPrior, class_prior

Labels = Int[Tensor, " b"] | Float[Tensor, "b classes"]  # class indices, or shares of each class


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What training minimises.

    `balance` is how classes of few cells count: `none` takes cells as they come; `class_weights` weights each by
    n / (classes * n_class); `sampling` draws each class equally often; `adjusted_loss` is the loss of logits +
    `adjust_tau` log prior, `adjusted_logits` subtracts the same after training without it (logit adjustment, Menon et
    al., arXiv 2007.07314). The prior is that of the training cells. `focal_gamma` multiplies the loss by
    (1 - p)^gamma (focal loss, Lin et al., arXiv 1708.02002); 0 is cross-entropy. `mixup` and `cutmix` are parameters
    alpha of a Beta distribution (`mix_crops`); 0 is off.
    """

    label_smoothing: float
    balance: Literal["none", "class_weights", "sampling", "adjusted_loss", "adjusted_logits"]
    adjust_tau: float
    focal_gamma: float
    mixup: float
    cutmix: float

    def prior(self, counts: Sequence[int]) -> ClassPrior:
        """The prior that the stored network's probabilities presume, after training on `counts` cells of each class.

        That of cross-entropy: focal loss, label smoothing, mixup and cutmix shift probabilities in other ways.
        """
        adjusted = self.adjust_tau if self.balance in ("adjusted_loss", "adjusted_logits") else 1.0
        return class_prior(counts, 0.0 if self.balance == "none" else adjusted)


class ObjectiveLoss(nn.Module):
    """The loss of an objective for training cells with `counts` of each class."""

    class_weights: Tensor | None
    added: Tensor | None
    predicted_offset: Tensor | None

    def __init__(self, objective: Objective, counts: Sequence[int]) -> None:
        super().__init__()
        n = torch.tensor(counts, dtype=torch.float64)
        offset = objective.adjust_tau * (n / n.sum()).log()
        parts = {
            "class_weights": n.sum() / (len(n) * n) if objective.balance == "class_weights" else None,
            "added": offset if objective.balance == "adjusted_loss" else None,
            "predicted_offset": -offset if objective.balance == "adjusted_logits" else None,
        }
        for name, value in parts.items():
            self.register_buffer(name, None if value is None else value.float(), persistent=False)
        self.focal_gamma = objective.focal_gamma

    def forward(
        self, logits: Float[Tensor, "b classes"], labels: Labels, smoothing: float, reduction: str = "mean"
    ) -> Float[Tensor, ""]:
        """The mean over the cells, weighted by class, or the sum, without cells whose label is IGNORE_INDEX."""
        if self.added is not None:
            logits = logits + self.added
        if labels.ndim == 1 and not self.focal_gamma:
            return cross_entropy(logits, labels, self.class_weights, None, IGNORE_INDEX, None, reduction, smoothing)
        shares = shares_of(labels, logits.shape[1])
        smooth = (1 - smoothing) * shares + smoothing / shares.shape[1] * shares.sum(dim=1, keepdim=True)
        total = self._weighted(smooth * focal_terms(logits, self.focal_gamma)).sum()
        return total if reduction == "sum" else total / self.weight(shares)

    def weight(self, labels: Labels) -> Float[Tensor, ""]:
        """The sum of the cells' weights, by which their sum is divided for a mean."""
        if labels.ndim == 2:
            return self._weighted(labels).sum()
        counted = labels != IGNORE_INDEX
        return counted.sum().float() if self.class_weights is None else self.class_weights[labels[counted]].sum()

    def adjust(self, logits: Float[Tensor, "b classes"]) -> Float[Tensor, "b classes"]:
        """Logits as the stored network gives them, from those of the network in training."""
        return logits if self.predicted_offset is None else logits + self.predicted_offset

    @torch.no_grad()
    def fold_into(self, head: nn.Module) -> None:
        """Make `adjust` a part of the head: what is stored, restored and exported is a network as any other."""
        if self.predicted_offset is not None:
            assert isinstance(head, nn.Linear)
            head.bias.add_(self.predicted_offset.to(head.bias.device))

    def _weighted(self, terms: Float[Tensor, "b classes"]) -> Float[Tensor, "b classes"]:
        return terms if self.class_weights is None else terms * self.class_weights


def shares_of(labels: Labels, n_classes: int) -> Float[Tensor, "b classes"]:
    """Labels as shares of each class, whose sum is 1; 0 for a cell that does not count."""
    if labels.ndim == 2:
        return labels
    counted = labels != IGNORE_INDEX
    return (one_hot(labels.clamp(min=0), n_classes) * counted[:, None]).float()


def focal_terms(logits: Float[Tensor, "b classes"], gamma: float) -> Float[Tensor, "b classes"]:
    """-(1 - p)^gamma log p of each class, as if it were the true one; gamma 0 is the cross-entropy.

    torchvision's `sigmoid_focal_loss` is the two-class form of the paper. Several classes take the softmax instead.
    """
    log_p = logits.float().log_softmax(dim=1)
    if not gamma:
        return -log_p
    return -((-log_p.expm1()).clamp(min=1e-7) ** gamma) * log_p  # the slope of 0^gamma is infinite below gamma 1
