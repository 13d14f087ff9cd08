"""Random numbers that depend on a cell's own pixels: the same on every device, in every batch and order.

torch's generators give other numbers on other devices, and draw for a batch as a whole. Here a hash of whole numbers
gives 32 random bits for a seed and a place. Its largest product is below 2^63, so int64 holds it everywhere.
"""

from math import pi

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MASK = 2**32 - 1
_FACTOR = 0x45D9F3B  # of Thomas Mueller's hash of 32 bits, https://stackoverflow.com/a/12996028


def cell_seeds(x: Float[Tensor, "b 3 h w"]) -> Int[Tensor, " b"]:
    """A seed in [0, 2^32) for each cell, from all its bytes and their places; pixels are in [0, 1]."""
    values = (x * 255).round().long().flatten(1)
    places = torch.arange(values.shape[1], device=x.device) * 256
    return _mixed(values + places).sum(dim=1) & _MASK


def uniform(seeds: Int[Tensor, " b"], n: int, stream: int) -> Float[Tensor, "b n"]:
    """Numbers in (0, 1], evenly distributed; another `stream` (1 to 3) gives others for the same seeds."""
    places = torch.arange(n, device=seeds.device) + stream * 2**21
    bits = _mixed(_mixed(places) ^ _mixed(seeds)[:, None])
    return (bits.float() + 0.5) / 2**32


def normal(seeds: Int[Tensor, " b"], n: int) -> Float[Tensor, "b n"]:
    """Numbers of the standard normal distribution (Box and Muller 1958)."""
    first, second = uniform(seeds, 2 * n, stream=3).split(n, dim=1)
    return (-2 * first.log()).sqrt() * (2 * pi * second).cos()


def _mixed(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """32 bits, each a function of all bits of a number in [0, 2^32)."""
    for _ in range(2):
        x = (((x >> 16) ^ x) * _FACTOR) & _MASK
    return (x >> 16) ^ x
