"""CustomViT with one thing changed at a time, for the ablation."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.layer_scale import LayerScale
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from cellpatch.models.customvit import Attention, CustomViT


def _blocks(model: CustomViT) -> list[Any]:
    return list(model.blocks)


class PatchStem(CustomViT):
    """Tokens are a linear map of patches that do not overlap, as in the textbook."""

    def __init__(self, input_px: int, token_px: int, **other: Any) -> None:
        super().__init__(input_px=input_px, token_px=token_px, **other)
        self.stem = Patches(token_px, self.num_features)


class Patches(nn.Module):
    def __init__(self, token_px: int, dim: int, overlapping: bool = False) -> None:
        super().__init__()
        beyond = token_px // 2 if overlapping else 0
        self.tokens = nn.Conv2d(3, dim, token_px + 2 * beyond, stride=token_px, padding=beyond)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b rows columns dim"]:
        return self.tokens(x).permute(0, 2, 3, 1)


class OverlappingStem(CustomViT):
    """Tokens are a linear map of patches twice as wide as their distance, and nothing before it."""

    def __init__(self, input_px: int, token_px: int, **other: Any) -> None:
        super().__init__(input_px=input_px, token_px=token_px, **other)
        self.stem = Patches(token_px, self.num_features, overlapping=True)


class PlainMLP(CustomViT):
    """No convolution between the tokens inside the MLPs."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        dim = self.num_features
        for block in _blocks(self):
            block.mix[1] = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


class Textbook(PlainMLP, PatchStem):
    """Both."""


class LearntPositions(CustomViT):
    """One vector for each place instead of row + column."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        side = self.rows.shape[0]
        self.rows = nn.Parameter(torch.randn(side, side, self.num_features) * 0.02)
        del self.columns
        self.register_buffer("columns", torch.zeros(()), persistent=False)


class NoPositions(CustomViT):
    """No position at all: what is left of it comes from the convolutions."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        del self.rows, self.columns
        self.register_buffer("rows", torch.zeros(()), persistent=False)
        self.register_buffer("columns", torch.zeros(()), persistent=False)


class RelativePositions(NoPositions):
    """A learnt bias on attention for each relative place and head (Liu et al., arXiv 2103.14030) and nothing else."""

    def __init__(self, input_px: int, token_px: int, heads: int, **other: Any) -> None:
        super().__init__(input_px=input_px, token_px=token_px, heads=heads, **other)
        for block in _blocks(self):
            block.attend[1] = RelativeAttention(self.num_features, heads, input_px // token_px)


class MaskedAttention(Attention):
    """Attention with what `mask` adds to it, or whom it lets a token see."""

    @abstractmethod
    def mask(self) -> Tensor:
        """A bias for each head and pair of tokens, or true for each pair that may attend."""

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        b, n, dim = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(scaled_dot_product_attention(q, k, v, self.mask()).transpose(1, 2).reshape(b, n, dim))


class RelativeAttention(MaskedAttention):
    index: Tensor

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__(dim, heads)
        place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
        apart = place[:, None] - place[None] + side - 1
        self.register_buffer("index", apart[..., 0] * (2 * side - 1) + apart[..., 1], persistent=False)
        self.bias = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))

    def mask(self) -> Tensor:
        return self.bias[self.index].permute(2, 0, 1)


class LocalAttention(CustomViT):
    """Each token attends to itself and its eight neighbours alone."""

    def __init__(self, input_px: int, token_px: int, heads: int, **other: Any) -> None:
        super().__init__(input_px=input_px, token_px=token_px, heads=heads, **other)
        for block in _blocks(self):
            block.attend[1] = NearAttention(self.num_features, heads, input_px // token_px)


class NearAttention(MaskedAttention):
    near: Tensor

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__(dim, heads)
        place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
        self.register_buffer("near", (place[:, None] - place[None]).abs().amax(dim=-1) <= 1, persistent=False)

    def mask(self) -> Tensor:
        return self.near


class Extra(CustomViT):
    """Tokens beside the map's: the convolution in the MLPs passes them by."""

    extra = 1

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tokens = nn.Parameter(torch.randn(1, self.extra, self.num_features) * 0.02)
        for block in _blocks(self):
            block.mix[1] = PassingMLP(block.mix[1], self.extra)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        tokens = (self.stem(self.normalise(x)) + self.rows + self.columns).flatten(1, 2)
        return self.pool(self.blocks(torch.cat([self.tokens.expand(len(x), -1, -1), tokens], dim=1)))

    @abstractmethod
    def pool(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b dim"]:
        """What represents the cell, of the extra tokens and the map's."""


class PassingMLP(nn.Module):
    def __init__(self, whole: Any, extra: int) -> None:
        super().__init__()
        self.whole = whole
        self.extra = extra

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        beside = self.whole.narrow(gelu(self.whole.widen(x[:, : self.extra])))
        return torch.cat([beside, self.whole(x[:, self.extra :])], dim=1)


class ClassToken(Extra):
    """A class token instead of the mean over the map."""

    def pool(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b dim"]:
        return self.norm(tokens[:, 0])


class Registers(Extra):
    """Four registers (Darcet et al., arXiv 2309.16588), left out of the mean."""

    extra = 4

    def pool(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b dim"]:
        return self.norm(tokens[:, self.extra :].mean(dim=1))


class Scaled(CustomViT):
    """Layer scale from 0.1 (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for block in _blocks(self):
            for branch in (block.attend, block.mix):
                branch.insert(2, LayerScale(self.num_features, 0.1))


class NoAttention(CustomViT):
    """The MLPs with their convolutions alone: is attention needed at all?"""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for block in _blocks(self):
            block.attend = Nothing()


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


# Name: the class that changes the model, and overrides of its configuration.
VARIANTS: dict[str, tuple[type[CustomViT], list[str]]] = {
    "whole": (CustomViT, []),
    "patch stem": (PatchStem, []),
    "overlapping patches": (OverlappingStem, []),
    "plain MLP": (PlainMLP, []),
    "patch stem + plain MLP": (Textbook, []),
    "attention to neighbours": (LocalAttention, []),
    "no attention": (NoAttention, []),
    "tokens of 4 px": (CustomViT, ["model.backbone.token_px=4"]),
    "tokens of 5 px": (CustomViT, ["model.backbone.token_px=5"]),
    "tokens of 10 px": (CustomViT, ["model.backbone.token_px=10"]),
    "stem of 16": (CustomViT, ["model.backbone.stem_width=16"]),
    "stem of 64": (CustomViT, ["model.backbone.stem_width=64"]),
    "a vector a place": (LearntPositions, []),
    "relative positions": (RelativePositions, []),
    "no positions": (NoPositions, []),
    "class token": (ClassToken, []),
    "4 registers": (Registers, []),
    "layer scale": (Scaled, []),
    "drop path 0.1": (CustomViT, ["model.backbone.drop_path=0.1"]),
    "drop path 0.2": (CustomViT, ["model.backbone.drop_path=0.2"]),
    "depth 2": (CustomViT, ["model.backbone.depth=2"]),
    "depth 8": (CustomViT, ["model.backbone.depth=8"]),
    "width 192": (CustomViT, ["model.backbone.dim=192"]),
}
