"""Multinomial logistic regression by full-batch L-BFGS, on principal axes of standardised features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

Features = Float[Tensor, "n d"]
Labels = Int[Tensor, " n"]


def fit_logistic(
    x: Features, labels: Labels, start: Float[Tensor, "classes d1"], strength: float, max_iter: int = 1000
) -> Float[Tensor, "classes d1"]:
    """Weights and, in the last column, biases that minimise mean cross entropy + strength/2 |weights|^2.

    Full-batch L-BFGS with a strong Wolfe search on the features' device, until no gradient exceeds 1e-5 or the
    loss stalls at the precision of 32 bits (gradients of up to 2e-4 were seen then). Weights are sought in units of
    1 / sqrt(mean square of the feature / 4 + strength), in which no curvature exceeds 1 where features are
    uncorrelated: a tenth of the steps on `principal` ones.
    """
    scale = torch.cat([(x.square().mean(dim=0) / 4 + strength).rsqrt(), x.new_ones(1)])
    scaled = (start / scale).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled], max_iter=max_iter, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    rows = 1024 if x.device.type == "cpu" else len(x)  # so many stay in the cache from one product to the next
    parts = list(zip(x.split(rows), one_hot(labels, len(start)).to(x).split(rows), strict=True))

    @torch.no_grad()
    def loss() -> Tensor:
        weight = scaled * scale
        total, gradient = x.new_zeros((), dtype=torch.float64), torch.zeros_like(weight)
        for part, observed in parts:
            named = torch.addmm(weight[:, -1], part, weight[:, :-1].T).log_softmax(dim=1)
            error = named.exp() - observed
            total -= (named * observed).sum()
            gradient[:, :-1] += _summed(error, part)
            gradient[:, -1] += error.sum(dim=0)
        gradient /= len(x)
        gradient[:, :-1] += strength * weight[:, :-1]
        scaled.grad = gradient * scale
        return total / len(x) + strength / 2 * weight[:, :-1].square().sum()

    optimizer.step(loss)
    return scaled.detach() * scale


_BLOCK = 128  # rows


def _summed(error: Float[Tensor, "n classes"], x: Features) -> Float[Tensor, "classes d"]:
    """error.T @ x, by blocks of rows that cores share: of so few classes one core alone does it whole.

    Autograd's order of factors, x.T @ error, is five times slower on a CPU.
    """
    blocks = len(x) // _BLOCK
    whole = blocks * _BLOCK
    first, second = (each[:whole].unflatten(0, (blocks, _BLOCK)) for each in (error, x))
    return torch.bmm(first.mT, second).sum(dim=0).addmm_(error[whole:].T, x[whole:])


def standardise(x: Features) -> tuple[Features, Tensor, Tensor]:
    """Features of mean 0 and standard deviation 1, and both as they were; a constant feature is divided by 1."""
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))
    return (x - mean) / std, mean, std


def principal(x: Features) -> tuple[Float[Tensor, "n k"], Float[Tensor, "d k"]]:
    """Features along their principal axes, and the axes, one a column: x = features @ axes.T.

    k is d, or n where cells are fewer than features: what they do not span, no gradient reaches.
    """
    if len(x) < x.shape[1]:
        span, rest = torch.linalg.qr(x.T)
        along, axes = principal(rest.T)
        return along, span @ axes
    axes = torch.linalg.eigh((x.T @ x).double())[1].to(x)  # in 32 bits it fails on some matrices of low rank
    return x @ axes, axes


def unstandardise(weight: Float[Tensor, "classes d1"], mean: Tensor, std: Tensor) -> nn.Linear:
    """The linear layer that does on raw features what `weight` does on standardised ones."""
    head = nn.Linear(len(mean), len(weight)).to(weight.device)
    with torch.no_grad():
        head.weight.copy_(weight[:, :-1] / std)
        head.bias.copy_(weight[:, -1] - head.weight @ mean)
    return head
