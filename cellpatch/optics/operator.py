"""Crop, blur and resize as one linear operator: y = A x Aᵀ per channel.

Each step is a matrix built by sending an identity through a library's own operation (Kornia's Gaussian blur, torch's
antialiased resize, which is Pillow's); their product is applied at once. Steps are those of a slide: a window around
the crop is blurred and resized, and cut to the crop last, so that neither sees a border while the margin suffices.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from math import ceil

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from cellpatch.optics.conditions import CLEAN, KINDS, STUDY_PX, Condition, Resize
from cellpatch.optics.kernels import blur_matrix, check_kernel_fits, disc_kernel, line_kernel


def to_pixels(crops: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Stored bytes as numbers in [0, 1], channels first."""
    return crops.permute(0, 3, 1, 2).float() / 255


def resize_matrix(source_px: int, target_px: int, how: Resize = "bilinear") -> Float[Tensor, "target source"]:
    """Resize along one axis: antialiased bilinear or bicubic, or means over areas."""
    if min(source_px, target_px) < 1:
        raise ValueError(f"sides must be >= 1 px, but got {source_px} and {target_px}")
    identity = torch.eye(source_px, dtype=torch.float64)[None, None]
    return interpolate(identity, (target_px, source_px), mode=how, antialias=how != "area")[0, 0]


def window_matrix(
    crop_px: int, margin_px: int, target_px: int, how: Resize = "bilinear"
) -> tuple[Float[Tensor, "rows side"], int]:
    """Resize a crop with its margin: every target pixel that lies within it, and how many of them are on each side.

    Pixels keep the places that they have in a resize of the whole slide. Where their filter reaches beyond the margin,
    what is there is weighted to 1, as torch does at the border of an image.
    """
    crops = ceil(margin_px / crop_px)  # whole crops around the crop, so that both grids begin together
    beyond = margin_px * target_px // crop_px
    rows = slice(crops * target_px - beyond, (crops + 1) * target_px + beyond)
    columns = slice(crops * crop_px - margin_px, (crops + 1) * crop_px + margin_px)
    around = resize_matrix((2 * crops + 1) * crop_px, (2 * crops + 1) * target_px, how)[rows, columns]
    return around / around.sum(dim=1, keepdim=True), beyond


@lru_cache(maxsize=256)  # a few milliseconds each, and every run of a grid asks for the same
def axis_operator(
    crop_px: int,
    margin_px: int,
    target_px: int,
    via_px: int | None,
    kind: str = "none",
    sigma: float = 0.0,
    resize: Resize = "bilinear",
) -> Float[Tensor, "target side"]:
    """From a stored crop of side crop + 2 margin to the input, along one axis.

    `pre` blurs native pixels by sigma * crop / 40 before the resize to `via_px` (or the target, if None), `post` the
    resized image by sigma in pixels of 40x40; the other kinds do neither here. The same tensor is given to all who ask:
    it is not to be changed.
    """
    if not margin_px >= 0:
        raise ValueError(f"margin_px must be >= 0, but got {margin_px}")
    if kind not in KINDS:
        raise ValueError(f"kind must be of {', '.join(KINDS)}, but got {kind!r}")
    side_px, resized_px = crop_px + 2 * margin_px, via_px or target_px
    resized, beyond = window_matrix(crop_px, margin_px, resized_px, resize)
    steps = resized @ blur_matrix(side_px, sigma * crop_px / STUDY_PX if kind == "pre" else 0.0)
    steps = blur_matrix(len(steps), sigma * resized_px / STUDY_PX if kind == "post" else 0.0) @ steps
    steps = steps[beyond : len(steps) - beyond]
    return (resize_matrix(resized_px, target_px, resize) @ steps).float()


class _Trimming(nn.Module):
    needed_px: int  # the crop's centre of this side is all that is read

    def trim(self, crops: UInt8[Tensor, "b side side 3"]) -> UInt8[Tensor, "b kept kept 3"]:
        """The centre that is read: what comes before the optics need not touch more."""
        cut = max(0, (crops.shape[1] - self.needed_px) // 2)
        return crops[:, cut : crops.shape[1] - cut, cut : crops.shape[2] - cut]


class Optics(_Trimming):
    """From a stored crop with margin to a model's input, for square crops and inputs.

    Maps [b, 3, side, side] in [0, 1] to [b, 3, target, target] with side = crop + 2 margin. With `via_px`
    the crop is resized to that side first, and from there to the target. Defocus and motion are convolutions of native
    pixels before all else, as no product of two axes holds them.
    """

    operator: Tensor
    kernel: Tensor | None

    def __init__(
        self,
        crop_px: int,
        margin_px: int,
        target_px: int,
        via_px: int | None = None,
        condition: Condition = CLEAN,
        resize: Resize = "bilinear",
    ) -> None:
        super().__init__()
        with _naming(condition):
            whole = axis_operator(crop_px, margin_px, target_px, via_px, condition.kind, condition.sigma, resize)
            kernel = _kernel(condition, crop_px, whole.shape[1])
        side_px = whole.shape[1]
        used = whole.abs().sum(0).nonzero().squeeze(1)
        cut = min(int(used[0]), whole.shape[1] - 1 - int(used[-1]))  # zero columns need no arithmetic
        whole = whole[:, cut : whole.shape[1] - cut].clone()
        around = 0 if kernel is None else len(kernel) // 2
        self.needed_px = min(side_px, whole.shape[1] + 2 * around)
        self.resize = resize
        self.is_crop = whole.shape[0] == whole.shape[1] and torch.equal(whole, torch.eye(target_px))
        self.register_buffer("operator", whole, persistent=False)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b 3 target target"]:
        """Crops of the stored side, or trimmed; raises ValueError on smaller ones or another parity.

        In 32 bits under autocast too: training and evaluation see the same pixels.
        """
        with _full_precision(x.device.type):
            x = _centre(x, self.needed_px)
            if self.kernel is not None:
                from kornia.filters import filter2d  # a second to import, and Gaussian blur does without

                x = _centre(filter2d(x, self.kernel[None], border_type="reflect"), self.operator.shape[1])
            return x if self.is_crop else _bounded(_along_rows(self.operator @ x, self.operator), self.resize)


class RandomOptics(_Trimming):
    """For training: each crop goes through one of several optics of one geometry, drawn from torch's generator."""

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


def reaches_beyond_margin(condition: Condition, crop_px: int, margin_px: int) -> bool:
    """Whether a blur reaches farther than the margin, so that mirrored borders stand for what lies there.

    What a resize reads beside a crop, a pixel or two, is not counted.
    """
    reach = {"pre": 4.0, "post": 4.0, "defocus": 2.0, "motion": 3**0.5}.get(condition.kind, 0.0)
    return reach * condition.sigma * crop_px > margin_px * STUDY_PX


@contextmanager
def _naming(condition: Condition) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"optics {condition.kind} {condition.sigma:g} (in pixels of 40x40): {error}") from error


def _full_precision(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _along_rows(x: Float[Tensor, "b 3 h side"], operator: Float[Tensor, "w side"]) -> Float[Tensor, "b 3 h w"]:
    """x Aᵀ; on a CPU as a 1x1 convolution, which torch leaves to oneDNN and not, as products in 32 bits, to MKL.

    Two cores of an AMD EPYC with AVX-512, where MKL takes its path for AVX2: products of 15360 x 80 by 80 x 40 at 350
    GFLOP/s instead of 180. The sums are the same to the last bit there. What is compiled or exported has the product.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not len(x):
        return x @ operator.T
    rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # pixels of a row as channels, which lie last
    return conv2d(rows, operator[:, :, None, None]).permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(operator))


def _bounded(x: Float[Tensor, "b 3 h w"], resize: Resize) -> Float[Tensor, "b 3 h w"]:
    """Bicubic filters overshoot at edges; images end at 0 and 1, as Pillow's do."""
    return x.clamp(0, 1) if resize == "bicubic" else x


def _centre(x: Float[Tensor, "b 3 side side"], needed_px: int) -> Float[Tensor, "b 3 needed needed"]:
    cut, odd = divmod(x.shape[-1] - needed_px, 2)
    if cut < 0 or odd:
        raise ValueError(f"the operator takes crops of {needed_px} + 2n px, but got {x.shape[-1]}")
    return x[..., cut : x.shape[-2] - cut, cut : x.shape[-1] - cut]


def _kernel(condition: Condition, crop_px: int, side_px: int) -> Float[Tensor, "n n"] | None:
    if condition.kind not in ("defocus", "motion") or condition.sigma == 0:
        return None
    sigma_px = condition.sigma * crop_px / STUDY_PX
    check_kernel_fits(
        ceil(1.5 * sigma_px), sigma_px, side_px
    )  # both are wider: a huge one is refused before it is made
    kernel = (disc_kernel if condition.kind == "defocus" else line_kernel)(sigma_px)
    check_kernel_fits(len(kernel) // 2, sigma_px, side_px)
    return kernel.float()
