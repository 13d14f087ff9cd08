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
_SAMPLES_PER_PX = 32  # per axis of a kernel's shape


def blur_matrix(side_px: int, sigma_px: float, radius_sigmas: float) -> Float[Tensor, "side side"]:
    """Gaussian blur along one axis: Kornia's sampled kernel of radius ceil(radius_sigmas * sigma), borders reflected.

    The kernel's standard deviation on the pixels is sigma, also below one pixel (`kornia_sigma`). Sigma 0 is the
    identity. Raises ValueError if sigma is negative or the kernel is wider than the side.
    """
    if not 0 <= sigma_px < float("inf"):
        raise ValueError(f"sigma must be finite and >= 0, but got {sigma_px}")
    identity = torch.eye(side_px, dtype=torch.float64)
    radius = ceil(radius_sigmas * sigma_px)
    if radius == 0:
        return identity
    check_kernel_fits(radius, sigma_px, side_px)
    from kornia.filters import filter2d  # takes a second to import, and clean optics do not need it

    kernel = _gaussian(kornia_sigma(sigma_px, radius_sigmas), radius)
    return filter2d(identity[None, None], kernel[None, :, None], border_type="reflect")[0, 0]


def kornia_sigma(sigma_px: float, radius_sigmas: float) -> float:
    """The sigma > 0 that Kornia needs for a kernel whose own standard deviation is `sigma_px`, in pixels.

    From 1 px on the two are taken as equal: cut at 4 sigma, a kernel is narrower by up to 0.05 % (1 to 20 px). A
    narrower Gaussian that is sampled at pixel centres is narrower than its sigma: 0.28 px at sigma 0.4, nothing at
    sigma 0.1.
    """
    if sigma_px >= 1:
        return sigma_px
    radius = ceil(radius_sigmas * sigma_px)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)

    def excess(sigma: float) -> float:
        return float((offsets**2 @ _gaussian(sigma, radius)).sqrt()) - sigma_px

    return float(brentq(excess, 0.01, 1.01, xtol=1e-12))


def _gaussian(sigma: float, radius: int) -> Float[Tensor, " n"]:
    from kornia.filters import get_gaussian_kernel1d

    return get_gaussian_kernel1d(2 * radius + 1, sigma, dtype=torch.float64)[0]


def disc_kernel(sigma_px: float) -> Float[Tensor, "side side"]:
    """Defocus: a disc whose standard deviation along an axis is sigma (a radius of about 2 sigma)."""

    def disc(radius: float) -> Float[np.ndarray, "side side"]:
        reach = ceil(radius)
        fine = max(_SAMPLES_PER_PX, 8 * _SAMPLES_PER_PX // reach)  # a small disc is mostly border
        offsets = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
        inside = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).astype(np.float64)
        pixels = 2 * reach + 1
        return inside.reshape(pixels, fine, pixels, fine).sum(axis=(1, 3))

    return _scaled_to_sigma(disc, sigma_px, 0.0)


def line_kernel(sigma_px: float) -> Float[Tensor, "side side"]:
    """Motion: a line at MOTION_DEG whose standard deviation along itself is sigma (a length of about 3.5 sigma)."""
    angle = np.deg2rad(MOTION_DEG)

    def line(half: float) -> Float[np.ndarray, "side side"]:
        reach = ceil(half)
        along = np.linspace(-half, half, _SAMPLES_PER_PX * (2 * reach + 1))
        weights = np.zeros((2 * reach + 3, 2 * reach + 3))
        y, x = along * np.sin(angle) + reach + 1, along * np.cos(angle) + reach + 1
        for row, column in product((0, 1), (0, 1)):  # each point is shared by its four pixels
            pixels = (np.floor(y).astype(int) + row, np.floor(x).astype(int) + column)
            np.add.at(weights, pixels, (1 - abs(y - pixels[0])) * (1 - abs(x - pixels[1])))
        return weights

    return _scaled_to_sigma(line, sigma_px, angle)


KERNELS: dict[str, Callable[[float], Float[Tensor, "side side"]]] = {  # by the name of their kind of blur
    "defocus": disc_kernel,
    "motion": line_kernel,
}


def _scaled_to_sigma(
    shape: Callable[[float], Float[np.ndarray, "side side"]], sigma_px: float, angle: float
) -> Float[Tensor, "side side"]:
    """The shape at the size at which the kernel's own standard deviation along `angle` is sigma; its sum is 1."""

    def excess(size: float) -> float:
        kernel = shape(size)
        if not kernel.any():  # a disc too small for any sample
            return -sigma_px
        offsets = np.arange(len(kernel)) - len(kernel) // 2
        along = offsets[:, None] * np.sin(angle) + offsets[None] * np.cos(angle)
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
