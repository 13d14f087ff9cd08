"""Heads of probes that are not linear: they map [b, d] features to [b, classes] logits."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from cellpatch.probing.logistic import ClassIndices, FeatureMatrix


class KNNHead(nn.Module):
    """Logarithm of the weighted vote; stores the directions of the training cells."""

    directions: Tensor
    labels: Tensor

    def __init__(
        self, features: FeatureMatrix, labels: ClassIndices, n_classes: int, k: int, temperature: float
    ) -> None:
        super().__init__()
        self.register_buffer("directions", normalize(features, dim=1))
        self.register_buffer("labels", labels)
        self.n_classes = n_classes
        self.k = k
        self.temperature = temperature

    def forward(self, x: FeatureMatrix) -> Float[Tensor, "n classes"]:
        similarity, nearest = (normalize(x, dim=1) @ self.directions.T).topk(self.k, dim=1)
        votes = ((similarity - similarity[:, :1]) / self.temperature).exp()
        total = x.new_zeros(x.shape[0], self.n_classes).scatter_add_(1, self.labels[nearest], votes)
        return (total / total.sum(1, keepdim=True)).clamp_min(1e-6).log()


class PrototypeHead(nn.Module):
    """Cosine similarity to each class's mean direction, divided by a temperature."""

    means: Tensor

    def __init__(self, means: Float[Tensor, "classes d"], temperature: float) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.temperature = temperature

    def forward(self, x: FeatureMatrix) -> Float[Tensor, "n classes"]:
        return normalize(x, dim=1) @ self.means.T / self.temperature
