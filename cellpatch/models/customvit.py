"""CustomViT: a Vision Transformer for cells of 40x40 pixels. arXiv 2603.04081 names it; its shape is our choice.

How it differs from a textbook ViT (Dosovitskiy et al., arXiv 2010.11929), and why:

* Convolutions make overlapping tokens (Xiao et al., arXiv 2106.14881). Edges and colour are local, and a few thousand
  cells are too few to learn that from linear patches. This change has the largest effect. customvit has five 3x3
  convolutions by stages (`stem=staged`; Graham et al., LeViT, arXiv 2104.01136), customvit_s four, of 3x3 and 7x7.
* Tokens of 4 px (1 um at 0.25 um/px), 8 px in customvit_s, instead of 16: a 40x40 input has only 6 tokens of 16 px.
* A depthwise 3x3 convolution over the token grid inside each MLP (Li et al., LocalViT, arXiv 2104.05707). A token sees
  its neighbours before attention has learnt to.
* Position = row + column: 20 learnt vectors instead of 100.
* Mean over the tokens instead of a class token: every token gets a gradient from the first step.

docs/customvit.md reports the effect of each change in real runs.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from torchvision.ops import StochasticDepth

from cellpatch.models.backbone import Backbone, Normalise


class Stem(nn.Module):
    """Four convolutions; the last has a stride, and so has the second if the token side is even.

    Maps [b, 3, h, w] to [b, h / token, w / token, dim].
    """

    def __init__(self, width: int, dim: int, token_px: int) -> None:
        super().__init__()
        halved = 2 - token_px % 2
        stride = token_px // halved
        self.local = nn.Sequential(
            *_convolve(3, width, 1), *_convolve(width, 2 * width, halved), *_convolve(2 * width, 2 * width, 1)
        )
        self.tokens = nn.Conv2d(2 * width, dim, 2 * stride - 1, stride=stride, padding=stride // 2)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b rows columns dim"]:
        return self.tokens(self.local(x)).permute(0, 2, 3, 1)


class StagedStem(nn.Module):
    """Stages of two 3x3 convolutions, each stage at half the side and twice the width of the one before, then tokens.

    The first stage has the side of the input and `width` channels; the last halving makes tokens of `token_px`, a power
    of two. Each convolution is normalised. Maps [b, 3, h, w] to [b, h / token, w / token, dim].
    """

    def __init__(self, width: int, dim: int, token_px: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(token_px.bit_length() - 1)]
        layers: list[nn.Module] = []
        for stage, (inputs, outputs) in enumerate(zip([3, *widths[:-1]], widths, strict=True)):
            layers += _convolve(inputs, outputs, 2 if stage else 1, nn.ReLU)
            layers += _convolve(outputs, outputs, 1, nn.ReLU)
        self.local = nn.Sequential(*layers)
        self.tokens = nn.Sequential(nn.Conv2d(widths[-1], dim, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b rows columns dim"]:
        return self.tokens(self.local(x)).permute(0, 2, 3, 1)


def _convolve(inputs: int, outputs: int, stride: int, activation: type[nn.Module] = nn.GELU) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), activation()]


STEMS: dict[str, type[Stem] | type[StagedStem]] = {"single": Stem, "staged": StagedStem}


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        b, n, dim = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, dim))


class LocalMLP(nn.Module):
    """An MLP that adds a depthwise 3x3 convolution of its hidden layer, as a map, before the activation."""

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.widen = nn.Linear(dim, 4 * dim)
        self.local = nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        hidden = self.widen(x)
        grid = hidden.transpose(1, 2).unflatten(2, (self.side, self.side))
        return self.narrow(gelu(hidden + self.local(grid).flatten(2).transpose(1, 2)))


class Block(nn.Module):
    """Pre-norm attention and MLP, each with stochastic depth on its residual."""

    def __init__(self, dim: int, heads: int, side: int, drop_path: float) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(dim), Attention(dim, heads), StochasticDepth(drop_path, "row"))
        self.mix = nn.Sequential(nn.LayerNorm(dim), LocalMLP(dim, side), StochasticDepth(drop_path, "row"))

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        x = x + self.attend(x)
        return x + self.mix(x)


class CustomViT(Backbone):
    """Convolutional stem, pre-norm blocks with local MLPs, mean of the tokens.

    model=customvit (staged stem, tokens of 4 px, dim 192, depth 6): 2.90 M parameters, 342 MMAC at 40x40.
    model=customvit_s (single stem, tokens of 8 px, dim 128, depth 4): 1.27 M parameters, 54 MMAC.
    Raises ValueError if the tokens do not tile the input, the heads do not divide dim, or a value is out of range.
    """

    stem: nn.Module

    def __init__(  # its parameters are the keys of conf/model/customvit.yaml
        self,
        input_px: int,
        token_px: int,
        stem_width: int,
        dim: int,
        depth: int,
        heads: int,
        drop_path: float,
        mean: Sequence[float],
        std: Sequence[float],
        stem: Literal["single", "staged"] = "single",
    ) -> None:
        super().__init__()
        least = min(input_px, token_px, stem_width, dim, depth, heads)
        if least < 1 or token_px < 2 or input_px % token_px or dim % heads:
            raise ValueError(
                f"token_px must be > 1 and divide input_px, heads must divide dim, all be > 0, but got "
                f"{token_px=}, {input_px=}, {heads=}, {dim=}, {depth=}, {stem_width=}"
            )
        if stem == "staged" and token_px & (token_px - 1):
            raise ValueError(f"stem must be single, or staged with token_px a power of two, but got {token_px=}")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), but got {drop_path}")
        self.input_px = input_px
        self.num_features = dim
        self.normalise = Normalise(mean, std)
        self.stem = STEMS[stem](stem_width, dim, token_px)
        side = input_px // token_px
        self.rows = nn.Parameter(torch.randn(side, 1, dim) * 0.02)
        self.columns = nn.Parameter(torch.randn(1, side, dim) * 0.02)
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.Sequential(*(Block(dim, heads, side, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        return self.norm(self._tokens(x).mean(dim=1))

    def feature_map(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim rows columns"]:
        tokens = self.norm(self._tokens(x)).transpose(1, 2)
        return tokens.unflatten(2, (len(self.rows), self.columns.shape[1]))

    def _tokens(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n dim"]:
        tokens = self.stem(self.normalise(x)) + self.rows + self.columns
        return self.blocks(tokens.flatten(1, 2))
