"""Batch normalisation of a batch of one cell, whose last maps may have one value per channel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def running_statistics_of_single_values(network: nn.Module) -> Iterator[None]:
    """Batch norms that see one value per channel take their running statistics, and do not update them.

    A single value has no variance: torch raises for it. All other layers normalise as in any training.
    """
    switched: set[nn.Module] = set()

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training and inputs[0].numel() == inputs[0].shape[1]:
            layer.eval()
            switched.add(layer)

    def after(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if layer in switched:
            switched.remove(layer)
            layer.train()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    hooks: list[Any] = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after, always_call=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
