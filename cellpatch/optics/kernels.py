"""Blur kernels: Gaussian along one axis, disc and line in two dimensions."""

from collections.abc import Callable
from itertools import product
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

MOTION_DEG = 45  # direction of the motion kernel
_FINE = 32  # samples per pixel and axis of a kernel's shape


def blur_matrix(side_px: int, sigma_px: float) -> Float[Tensor, "side side"]:
    """Gaussian blur along one axis: Kornia's sampled kernel, radius ceil(4 sigma), borders reflected.

    The kernel's standard deviation on the pixels is sigma, below one pixel too (`kornia_sigma`); sigma 0 is the
    identity. Raises ValueError if sigma is negative or the kernel is wider than the side.
    """
    if not 0 <= sigma_px < float("inf"):
        raise ValueError(f"sigma must be finite and >= 0, but got {sigma_px}")
    identity = torch.eye(side_px, dtype=torch.float64)
    radius = ceil(4 * sigma_px)
    if radius == 0:
        return identity
    check_kernel_fits(radius, sigma_px, side_px)
    from kornia.filters import filter2d  # a second to import, and clean optics do without

    kernel = _gaussian(kornia_sigma(sigma_px), radius)
    return filter2d(identity[None, None], kernel[None, :, None], border_type="reflect")[0, 0]


def kornia_sigma(sigma_px: float) -> float:
    """The sigma > 0 to give to Kornia for a kernel whose own standard deviation is `sigma_px`, in pixels.

    From 1 px on they are equal (to 1e-7). A narrower Gaussian, sampled at pixels' centres, is narrower than it says:
    0.28 px at 0.4, nothing at 0.1.
    """
    if sigma_px >= 1:
        return sigma_px
    radius = ceil(4 * sigma_px)
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)

    def excess(sigma: float) -> float:
        return float((places**2 @ _gaussian(sigma, radius)).sqrt()) - sigma_px

    return float(brentq(excess, 0.01, 1.01, xtol=1e-12))


def _gaussian(sigma: float, radius: int) -> Float[Tensor, " n"]:
    from kornia.filters import get_gaussian_kernel1d

    return get_gaussian_kernel1d(2 * radius + 1, sigma, dtype=torch.float64)[0]


def disc_kernel(sigma_px: float) -> Float[Tensor, "side side"]:
    """Defocus: a disc whose standard deviation along an axis is sigma (a radius of about 2 sigma)."""

    def disc(radius: float) -> Float[np.ndarray, "side side"]:
        reach = ceil(radius)
        fine = max(_FINE, 8 * _FINE // reach)  # a small disc is mostly border
        places = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
        inside = (places[:, None] ** 2 + places[None] ** 2 <= radius**2).astype(np.float64)
        pixels = 2 * reach + 1
        return inside.reshape(pixels, fine, pixels, fine).sum(axis=(1, 3))

    return _sized(disc, sigma_px, 0.0)


def line_kernel(sigma_px: float) -> Float[Tensor, "side side"]:
    """Motion: a line at MOTION_DEG whose standard deviation along itself is sigma (a length of about 3.5 sigma)."""
    angle = np.deg2rad(MOTION_DEG)

    def line(half: float) -> Float[np.ndarray, "side side"]:
        reach = ceil(half)
        along = np.linspace(-half, half, _FINE * (2 * reach + 1))
        found = np.zeros((2 * reach + 3, 2 * reach + 3))
        y, x = along * np.sin(angle) + reach + 1, along * np.cos(angle) + reach + 1
        for row, column in product((0, 1), (0, 1)):  # each point is shared by its four pixels
            at = (np.floor(y).astype(int) + row, np.floor(x).astype(int) + column)
            np.add.at(found, at, (1 - abs(y - at[0])) * (1 - abs(x - at[1])))
        return found

    return _sized(line, sigma_px, angle)


def _sized(
    shape: Callable[[float], Float[np.ndarray, "side side"]], sigma_px: float, angle: float
) -> Float[Tensor, "side side"]:
    """The shape at the size at which the kernel's own standard deviation along `angle` is sigma; its sum is 1."""

    def excess(size: float) -> float:
        kernel = shape(size)
        if not kernel.any():  # a disc too small for any sample
            return -sigma_px
        places = np.arange(len(kernel)) - len(kernel) // 2
        along = places[:, None] * np.sin(angle) + places[None] * np.cos(angle)
        return float(np.sqrt((kernel * along**2).sum() / kernel.sum()) - sigma_px)

    if not 0 < sigma_px < float("inf"):
        raise ValueError(f"sigma must be finite and > 0, but got {sigma_px}")
    kernel = shape(brentq(excess, 1e-9, 4 * sigma_px + 2, xtol=1e-9 + 1e-4 * sigma_px))
    return torch.from_numpy(kernel / kernel.sum())


def check_kernel_fits(radius: int, sigma_px: float, side_px: int) -> None:
    """Raise ValueError for a kernel that is wider than what it blurs."""
    if 2 * radius + 1 > side_px:
        raise ValueError(
            f"a blur of sigma {sigma_px:g} px has a kernel of {2 * radius + 1:g} px, but crop and margin have only "
            f"{side_px} px where it is applied"
        )
