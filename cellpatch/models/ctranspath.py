"""CTransPath (Wang et al., Medical Image Analysis 81:102559, 2022): Swin-T behind a convolutional stem."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from cellpatch.models.timm import TimmBackbone


class ConvStem(nn.Module):
    """Two 3x3 convolutions of stride 2 and a 1x1 convolution in place of Swin's 4x4 patch embedding.

    The parameters are those that timm's Swin passes to its patch embedding. Tensors have the names of the published
    file.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        norm_layer: type[nn.Module],
        **_: Any,
    ) -> None:
        super().__init__()
        self.img_size = (img_size, img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        width = embed_dim // 8
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h4 w4 c"]:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class CTransPath(TimmBackbone):
    """Swin-T with `ConvStem`. Its windows are fixed, so the input side must be the published one."""

    by_stage = False

    def _create(self, architecture: str, options: dict[str, Any]) -> Any:
        if self.input_px != self.pretrained_img_size:
            raise ValueError(
                f"model.backbone.input_px must be {self.pretrained_img_size}, but got {self.input_px}: "
                f"{architecture} has fixed windows of 7x7 tokens and no positions to resample"
            )
        return super()._create(architecture, options | {"embed_layer": ConvStem})
