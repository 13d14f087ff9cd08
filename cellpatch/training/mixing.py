"""Mixup and cutmix: inputs and labels of pairs of cells, mixed on their device."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta

from cellpatch.data.augment import stretches


def mix_crops(
    x: Float[Tensor, "b 3 h w"], labels: Float[Tensor, "b classes"], mixup: float, cutmix: float
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b classes"]]:
    """Each cell mixed with the one before it in the batch: pixels by mixup or cutmix, labels by the same share.

    Mixup (Zhang et al., arXiv 1710.09412) adds the two, cutmix (Yun et al., arXiv 1905.04899) puts a box of one onto
    the other; its share is what the box leaves. Each cell's share is of Beta(alpha, alpha), with `mixup` and `cutmix`
    as alpha; 0 is off. If both are on, each cell takes one of the two at equal chance, as in timm. timm's `Mixup`
    draws on the CPU from NumPy's generator, which no checkpoint stores, and in its cell-wise mode cell by cell.
    """
    share = own_share(x, mixup, cutmix)
    mixed = torch.lerp(x.roll(1, 0), x, share)
    of_labels = share.mean(dim=(1, 2, 3))[:, None]
    return mixed, torch.lerp(labels.roll(1, 0), labels, of_labels)


def own_share(x: Float[Tensor, "b 3 h w"], mixup: float, cutmix: float) -> Float[Tensor, "b 1 h w"]:
    """The share of a cell in each pixel of its mixture, in [0, 1]."""
    b, _, h, w = x.shape
    shares = []
    if mixup:
        shares.append(_draw(x, mixup)[:, None, None, None].expand(b, 1, h, w))
    if cutmix:
        side = (1 - _draw(x, cutmix)).sqrt()
        top, left = torch.rand(2, b, device=x.device)  # a box is cut at the border
        rows, columns = stretches(top, side, h), stretches(left, side, w)
        shares.append(1 - (rows[:, None, :, None] & columns[:, None, None, :]).to(x.dtype))
    if len(shares) == 1:
        return shares[0]
    by_mixup, by_cutmix = shares
    return torch.where(torch.rand(b, 1, 1, 1, device=x.device) < 0.5, by_mixup, by_cutmix)


def _draw(x: Float[Tensor, "b 3 h w"], alpha: float) -> Float[Tensor, " b"]:
    """A number of Beta(alpha, alpha) for each cell, of torch's generator on the device."""
    first, second = torch.full((2,), alpha, device=x.device, dtype=x.dtype)
    return Beta(first, second, validate_args=False).sample((len(x),))  # a check makes a GPU wait at each step
