"""Batch normalisation with statistics of the whole batch that several processes share."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.nn.functional import batch_norm


def sync_batchnorm(network: nn.Module) -> None:
    """Make every batch normalisation of the network compute its statistics over all processes; in place, names stay.

    `torch.nn.SyncBatchNorm` and the layers of `timm.layers.convert_sync_batchnorm` raise for tensors on a CPU. torch's
    conversion also drops the activation that timm's networks have inside the layer. Each process must hold a share of
    every batch; the shares may differ in size. A batch of fewer cells than processes counts a cell more than once.
    """
    for layer in network.modules():
        if isinstance(layer, BatchNormAct2d):
            layer.forward = partial(_normalise_and_act, layer)  # type: ignore[method-assign]
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.forward = partial(_normalise, layer)  # type: ignore[method-assign]


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        all_reduce(total)
        return total


def _normalise_and_act(layer: BatchNormAct2d, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
    return layer.act(layer.drop(_normalise(layer, x)))


def _normalise(layer: nn.modules.batchnorm._BatchNorm, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
    if not layer.training:
        return batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0.0, layer.eps)
    over = [dim for dim in range(x.ndim) if dim != 1]
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    count = torch.full_like(exact[0, 0].flatten()[:1], exact[:, 0].numel())
    totals = _Total.apply(torch.cat([exact.sum(over), count]))
    n = totals[-1]
    centred = exact - _along(totals[:-1] / n, x)
    var = _Total.apply(centred.square().sum(over)) / n
    with torch.no_grad():
        assert layer.momentum is not None
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.num_batches_tracked is not None
        layer.running_mean.lerp_(totals[:-1] / n, layer.momentum)
        layer.running_var.lerp_(var * n / (n - 1), layer.momentum)
        layer.num_batches_tracked += 1
    scaled = centred * _along((var + layer.eps).rsqrt() * layer.weight, x) + _along(layer.bias, x)
    return scaled.to(x.dtype)


def _along(channels: Float[Tensor, " c"], x: Float[Tensor, "b c ..."]) -> Tensor:
    return channels.reshape(1, -1, *[1] * (x.ndim - 2))
