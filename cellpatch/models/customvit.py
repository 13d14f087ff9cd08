"""CustomViT: a Vision Transformer for cells of 40x40 pixels (arXiv 2603.04081 names it; its shape is ours).

What differs from a textbook ViT (Dosovitskiy et al., arXiv 2010.11929), and why it helps at this size:

* Tokens of 5 px (1.25 um at 0.25 um/px) instead of 16: a 40x40 input in 16-px tokens is 6 tokens, and a
  membrane is 2-3 px wide. Smaller tokens would cost more than they give: attention grows with their square.
* A 3x3 convolution before tokens that overlap by half (Xiao et al., arXiv 2106.14881): edges and colour are
  local, and a few thousand cells are too few to learn that from linear patches.
* Position = row + column: 16 vectors instead of 64 to learn.
* Mean over the tokens instead of a class token: every token gets a gradient from the first step.
* Layer scale and stochastic depth, as is usual for ViTs trained from scratch on small sets.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from timm.layers.layer_scale import LayerScale
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cellpatch.models.backbone import Backbone, Normalise


class Stem(nn.Module):
    """A 3x3 convolution, then overlapping tokens: [b, 3, h, w] to [b, h / token, w / token, dim]."""

    def __init__(self, width: int, dim: int, token_px: int) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.GELU())
        self.tokens = nn.Conv2d(width, dim, 2 * token_px - 1, stride=token_px, padding=token_px // 2)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b rows columns dim"]:
        return self.tokens(self.local(x)).permute(0, 2, 3, 1)


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


class Block(nn.Module):
    """Pre-norm attention and MLP, each with layer scale and stochastic depth on its residual."""

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(dim), Attention(dim, heads), LayerScale(dim, 0.1), DropPath(drop_path))
        self.mix = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Linear(4 * dim, dim),
            LayerScale(dim, 0.1),
            DropPath(drop_path),
        )

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        x = x + self.attend(x)
        return x + self.mix(x)


class CustomViT(Backbone):
    """Convolutional stem, overlapping tokens, pre-norm blocks, mean of the tokens.

    With dim 128, depth 6, 4 heads, tokens of 5 px at 40x40: 1.53 M parameters, 104 MMAC.
    Raises ValueError if the tokens do not tile the input or the heads do not divide dim.
    """

    def __init__(
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
    ) -> None:
        super().__init__()
        if input_px % token_px or dim % heads:
            raise ValueError(
                f"token_px must divide input_px and heads must divide dim, but got token_px={token_px}, "
                f"input_px={input_px}, heads={heads}, dim={dim}"
            )
        self.input_px = input_px
        self.num_features = dim
        self.normalise = Normalise(mean, std)
        self.stem = Stem(stem_width, dim, token_px)
        side = input_px // token_px
        self.rows = nn.Parameter(torch.randn(side, 1, dim) * 0.02)
        self.columns = nn.Parameter(torch.randn(1, side, dim) * 0.02)
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.Sequential(*(Block(dim, heads, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        tokens = self.stem(self.normalise(x)) + self.rows + self.columns
        return self.norm(self.blocks(tokens.flatten(1, 2)).mean(dim=1))
