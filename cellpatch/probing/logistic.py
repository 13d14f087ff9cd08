"""Multinomial logistic regression by full-batch L-BFGS, on principal components of standardised features.

scikit-learn's `LogisticRegression` computes on the CPU only. Its `warm_start` starts from the weights of its own last
fit, and its solver always works on the features as they are, which takes ten times the steps. The path over L2
penalties needs a few steps per penalty, on the device of the features. The results are equal; tests compare both.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

FeatureMatrix = Float[Tensor, "n d"]
ClassIndices = Int[Tensor, " n"]


def fit_logistic(
    x: FeatureMatrix, labels: ClassIndices, start: Float[Tensor, "classes d1"], l2: float, max_iter: int = 1000
) -> Float[Tensor, "classes d1"]:
    """Weights and, in the last column, biases that minimise mean cross entropy + l2/2 |weights|^2.

    Full-batch L-BFGS with a strong Wolfe search, on the device of the features. It ends when no gradient exceeds 1e-5,
    or when the loss stalls at the precision of 32 bits (then with gradients of up to 2e-4). The optimiser sees weights
    in units of 1 / sqrt(mean square of the feature / 4 + l2). In these units no curvature exceeds 1 if features are
    uncorrelated, and principal components need a tenth of the steps.
    """
    scale = torch.cat([(x.square().mean(dim=0) / 4 + l2).rsqrt(), x.new_ones(1)])
    scaled = (start / scale).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled], max_iter=max_iter, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    rows = 1024 if x.device.type == "cpu" else len(x)  # so many stay in the processor's cache between two products
    parts = list(zip(x.split(rows), one_hot(labels, len(start)).to(x).split(rows), strict=True))

    @torch.no_grad()
    def loss() -> Tensor:
        weight = scaled * scale
        total, gradient = x.new_zeros((), dtype=torch.float64), torch.zeros_like(weight)
        for part, observed in parts:
            log_probabilities = torch.addmm(weight[:, -1], part, weight[:, :-1].T).log_softmax(dim=1)
            error = log_probabilities.exp() - observed
            total -= (log_probabilities * observed).sum()
            gradient[:, :-1] += _weight_gradient(error, part)
            gradient[:, -1] += error.sum(dim=0)
        gradient /= len(x)
        gradient[:, :-1] += l2 * weight[:, :-1]
        scaled.grad = gradient * scale
        return total / len(x) + l2 / 2 * weight[:, :-1].square().sum()

    optimizer.step(loss)
    return scaled.detach() * scale


_BLOCK = 128  # rows


def _weight_gradient(error: Float[Tensor, "n classes"], x: FeatureMatrix) -> Float[Tensor, "classes d"]:
    """error.T @ x, in blocks of rows that several cores compute: with few classes one core computes it alone.

    Autograd's order of factors, x.T @ error, is five times slower on a CPU.
    """
    blocks = len(x) // _BLOCK
    whole = blocks * _BLOCK
    first, second = (each[:whole].unflatten(0, (blocks, _BLOCK)) for each in (error, x))
    return torch.bmm(first.mT, second).sum(dim=0).addmm_(error[whole:].T, x[whole:])


def standardise(x: FeatureMatrix) -> tuple[FeatureMatrix, Tensor, Tensor]:
    """Features of mean 0 and standard deviation 1, and the mean and deviation that they had.

    A constant feature is divided by 1.
    """
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))
    return (x - mean) / std, mean, std


def principal_components(x: FeatureMatrix) -> tuple[Float[Tensor, "n k"], Float[Tensor, "d k"]]:
    """Features along their principal axes, and the axes, one per column: x = components @ axes.T.

    k is d, or n if there are fewer cells than features: no gradient leaves the space that the cells span.
    """
    if len(x) < x.shape[1]:
        span, rest = torch.linalg.qr(x.T)
        components, axes = principal_components(rest.T)
        return components, span @ axes
    axes = torch.linalg.eigh((x.T @ x).double())[1].to(x)  # in 32 bits it fails on some matrices of low rank
    return x @ axes, axes


def unstandardise(weight: Float[Tensor, "classes d1"], mean: Tensor, std: Tensor) -> nn.Linear:
    """The linear layer that gives on raw features what `weight` gives on standardised ones."""
    head = nn.Linear(len(mean), len(weight)).to(weight.device)
    with torch.no_grad():
        head.weight.copy_(weight[:, :-1] / std)
        head.bias.copy_(weight[:, -1] - head.weight @ mean)
    return head
