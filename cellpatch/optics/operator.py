"""Crop, blur and resize as one linear operator: y = A x Aᵀ per channel.

Kornia, torchvision and Albumentations blur and resize one step at a time. Here each step is a matrix, built by sending
an identity through a library's own operation: Kornia's Gaussian blur, and torch's antialiased resize, which is
Pillow's. Their product is applied at once. On two CPU cores 256 crops of 80 px at sigma 3.2 take 46 ms; the chain
takes 340 ms with Kornia and 650 ms with torchvision, and the results differ by less than 2e-6.

The order of steps is that of a slide: a window around the crop is blurred and resized, and cut to the crop last. So
neither step sees a border while the margin suffices.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from cellpatch.optics.conditions import CLEAN, STUDY_PX, Condition, Resize
from cellpatch.optics.faults import acts_on_pixels, apply_fault, fault_reach
from cellpatch.optics.kernels import KERNELS, blur_matrix, check_kernel_fits
from cellpatch.optics.resizing import magnified_matrix, mirrored_px, resize_matrix


def to_pixels(crops: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Stored bytes as numbers in [0, 1], channels first."""
    return crops.permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class OpticalPath:
    """The way from a stored crop to a model's input, all but the condition; decided once per run.

    The stored crop has `margin_px` around it on each side. With `via_px` it is resized to that side first, and from
    there to `input_px`. The outer `mirrored_px` are not stored: they are filled by reflection. Raises ValueError for a
    negative margin.
    """

    crop_px: int
    margin_px: int
    input_px: int
    via_px: int | None = None
    resize: Resize = "bilinear"
    mirrored_px: int = 0

    def __post_init__(self) -> None:
        if not self.margin_px >= 0:
            raise ValueError(f"margin_px must be >= 0, but got {self.margin_px}")

    @property
    def side_px(self) -> int:
        """Side of a crop with its margin and what is mirrored."""
        return self.crop_px + 2 * self.margin_px

    @property
    def stored_px(self) -> int:  # of a crop with its margin, without what is mirrored
        return self.side_px - 2 * self.mirrored_px

    @property
    def resized_px(self) -> int:
        """Side of the crop after the first resize."""
        return self.via_px or self.input_px

    def under(self, condition: Condition = CLEAN) -> "Optics":
        """The optics under a condition; raises ValueError for a blur that crop and margin cannot hold."""
        return Optics(self, condition)


def window_matrix(path: OpticalPath) -> tuple[Float[Tensor, "rows side"], int]:
    """Resize a crop with its margin: every resized pixel that lies within it, and how many of them are on each side.

    Pixels keep the positions that they have in a resize of the whole slide. Where a filter reaches beyond the margin,
    the weights of the known pixels are normalised to 1, as torch does at the border of an image.
    """
    crop_px, margin_px, resized_px = path.crop_px, path.margin_px, path.resized_px
    crops = ceil(margin_px / crop_px)  # whole crops around the crop, so that both grids begin together
    beyond = margin_px * resized_px // crop_px
    rows = slice(crops * resized_px - beyond, (crops + 1) * resized_px + beyond)
    columns = slice(crops * crop_px - margin_px, (crops + 1) * crop_px + margin_px)
    around = resize_matrix((2 * crops + 1) * crop_px, (2 * crops + 1) * resized_px, path.resize)[rows, columns]
    return around / around.sum(dim=1, keepdim=True), beyond


@lru_cache(maxsize=256)  # a cache: a few milliseconds each, and every run of a grid asks for the same operators
def axis_operator(path: OpticalPath, condition: Condition = CLEAN) -> Float[Tensor, "target side"]:
    """From a stored crop with its margin to the input, along one axis.

    A native blur applies sigma * crop / 40 to the crop's own pixels, before the resize. A blur of the resized image
    applies sigma * side / 40 after it. Two-dimensional kernels are not part of this operator. All callers get the same
    tensor and must not change it.
    """
    if condition.magnification != 1:
        return _magnified_operator(path, condition.magnification)
    applied, radius_sigmas = condition.blur.applied, condition.blur.radius_sigmas
    resized, beyond = window_matrix(path)
    native_px = condition.sigma_px(path.crop_px) if applied == "native" else 0.0
    steps = resized @ blur_matrix(path.side_px, native_px, radius_sigmas)
    resized_px = condition.sigma_px(path.resized_px) if applied == "resized" else 0.0
    steps = blur_matrix(len(steps), resized_px, radius_sigmas) @ steps
    return _to_input(path, steps[beyond : len(steps) - beyond])


def _magnified_operator(path: OpticalPath, times: float) -> Float[Tensor, "target side"]:
    """As `axis_operator`, of a window of the crop's size / times; what it lacks is filled by reflection."""
    beyond = mirrored_px(path.side_px, path.crop_px, times)
    wider = replace(path, margin_px=path.margin_px + beyond, mirrored_px=path.mirrored_px + beyond)
    return _to_input(wider, magnified_matrix(wider.side_px, path.crop_px, path.resized_px, times, path.resize))


def _to_input(path: OpticalPath, steps: Float[Tensor, "resized side"]) -> Float[Tensor, "target stored"]:
    """Steps along an axis of a crop with all its pixels, on those that are stored, and resized to the input."""
    if path.mirrored_px:
        stored = torch.eye(path.stored_px, dtype=torch.float64)[None]
        steps = steps @ pad(stored, (path.mirrored_px, path.mirrored_px), mode="reflect")[0].T
    return (resize_matrix(path.resized_px, path.input_px, path.resize) @ steps).float()


class _Trimming(nn.Module):
    needed_px: int  # side of the crop's centre that is read

    def trim(self, crops: UInt8[Tensor, "b side side 3"]) -> UInt8[Tensor, "b kept kept 3"]:
        """The centre that is read: steps before the optics can skip the rest."""
        cut = max(0, (crops.shape[1] - self.needed_px) // 2)
        return crops[:, cut : crops.shape[1] - cut, cut : crops.shape[2] - cut]


class Optics(_Trimming):
    """From a stored crop with margin to a model's input under one condition, for square crops and inputs.

    Maps [b, 3, side, side] in [0, 1] to [b, 3, input, input] with side = crop + 2 margin. Defocus and motion are
    convolutions of native pixels before all other steps, because no product of two axes can express them. A fault acts
    before these, on the whole stored crop.
    """

    operator: Tensor
    kernel: Tensor | None

    def __init__(self, path: OpticalPath, condition: Condition = CLEAN) -> None:
        super().__init__()
        with _naming(condition):
            whole = axis_operator(path, condition)
            kernel = _kernel(path, condition)
        used = whole.abs().sum(0).nonzero().squeeze(1)
        cut = min(int(used[0]), whole.shape[1] - 1 - int(used[-1]))  # zero columns need no arithmetic
        whole = whole[:, cut : whole.shape[1] - cut].clone()
        around = 0 if kernel is None else len(kernel) // 2
        self.fault, self.crop_px = (condition if acts_on_pixels(condition) else None), path.crop_px
        self.needed_px = path.stored_px if self.fault else min(path.side_px, whole.shape[1] + 2 * around)
        self.resize = path.resize
        self.is_crop = whole.shape[0] == whole.shape[1] and torch.equal(whole, torch.eye(path.input_px))
        self.register_buffer("operator", whole, persistent=False)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 3 target target"]:
        """Crops of the stored side, or trimmed; raises ValueError for smaller ones or another parity.

        Computes in 32 bits under autocast too, so that training and evaluation see the same pixels.
        """
        with _full_precision(x.device.type):
            x = _centre(x, self.needed_px)
            if self.fault is not None:
                x = _centre(apply_fault(x, self.fault, self.crop_px), self.operator.shape[1])
            if self.kernel is not None:
                from kornia.filters import filter2d  # takes a second to import, and Gaussian blur does not need it

                x = _centre(filter2d(x, self.kernel[None], border_type="reflect"), self.operator.shape[1])
            return x if self.is_crop else _bounded(_along_rows(self.operator @ x, self.operator), self.resize)


class RandomOptics(_Trimming):
    """For training: each crop goes through one of several optics of one path, drawn from torch's generator."""

    operators: Tensor

    def __init__(self, several: Sequence[Optics]) -> None:
        super().__init__()
        self.needed_px = max(optics.needed_px for optics in several)
        around = [(self.needed_px - optics.needed_px) // 2 for optics in several]
        operators = [pad(optics.operator, (n, n)) for optics, n in zip(several, around, strict=True)]
        self.resize = several[0].resize
        self.register_buffer("operators", torch.stack(operators)[:, None], persistent=False)

    def forward(self, x: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 3 target target"]:
        """As `Optics`, each crop by its own operator."""
        operators = self.operators[torch.randint(len(self.operators), (len(x),), device=x.device)]
        with _full_precision(x.device.type):
            return _bounded(operators @ _centre(x, self.needed_px) @ operators.mT, self.resize)


def reaches_beyond_margin(condition: Condition, path: OpticalPath, mirrored_px: int = 0) -> bool:
    """Whether a condition reaches beyond the margin's real pixels, so that it takes mirrored ones.

    `mirrored_px` of the margin's outer pixels are mirrored already. The pixel or two that a resize reads beside a crop
    do not count.
    """
    if condition.is_fault:
        return fault_reach(condition, path.crop_px) > path.margin_px - mirrored_px
    return condition.blur.radius_sigmas * condition.sigma * path.crop_px > (path.margin_px - mirrored_px) * STUDY_PX


@contextmanager
def _naming(condition: Condition) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"optics {condition.kind} {condition.sigma:g} (in pixels of 40x40): {error}") from error


def _full_precision(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _along_rows(x: Float[Tensor, "b 3 h side"], operator: Float[Tensor, "w side"]) -> Float[Tensor, "b 3 h w"]:
    """x Aᵀ; on a CPU as a 1x1 convolution, which torch gives to oneDNN. Products in 32 bits go to MKL instead.

    Two cores of an AMD EPYC with AVX-512, where MKL takes its path for AVX2: products of 15360 x 80 by 80 x 40 at 350
    GFLOP/s instead of 180. The sums are equal to the last bit on that machine. Compiled and exported networks use the
    product.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not len(x):
        return x @ operator.T
    rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # a row's pixels become channels, channels last
    return conv2d(rows, operator[:, :, None, None]).permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(operator))


def _bounded(x: Float[Tensor, "b 3 h w"], resize: Resize) -> Float[Tensor, "b 3 h w"]:
    """Clip what bicubic filters overshoot at edges to [0, 1], as Pillow does."""
    return x.clamp(0, 1) if resize == "bicubic" else x


def _centre(x: Float[Tensor, "b 3 side side"], needed_px: int) -> Float[Tensor, "b 3 needed needed"]:
    cut, odd = divmod(int(x.shape[-1]) - needed_px, 2)
    if cut < 0 or odd:
        raise ValueError(f"the operator takes crops of {needed_px} + 2n px, but got {x.shape[-1]}")
    return x[..., cut : x.shape[-2] - cut, cut : x.shape[-1] - cut]


def _kernel(path: OpticalPath, condition: Condition) -> Float[Tensor, "n n"] | None:
    if condition.blur.applied != "kernel" or condition.sigma == 0:
        return None
    sigma_px = condition.sigma_px(path.crop_px)
    # Both shapes are wider than 1.5 sigma: a huge kernel is refused before it is made.
    check_kernel_fits(ceil(1.5 * sigma_px), sigma_px, path.side_px)
    kernel = KERNELS[condition.kind](sigma_px)
    check_kernel_fits(len(kernel) // 2, sigma_px, path.side_px)
    return kernel.float()
