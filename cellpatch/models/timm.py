"""Any architecture of timm as a backbone: https://github.com/huggingface/pytorch-image-models (Apache-2.0)."""

import re
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any, Literal

import timm
import torch
from jaxtyping import Float
from timm.models import group_parameters
from torch import Tensor, nn

from cellpatch.models.backbone import Normalise, PretrainableBackbone, check_fit


class TimmBackbone(PretrainableBackbone):
    """One of timm's networks without its classifier.

    `options` go to timm's constructor. `pretrained_img_size` is the side of the published weights, null for a network
    that takes any side. Weights are loaded at that side; then timm resamples their position embeddings to
    `input_px` (bicubic, antialiased). `pooling` is the architecture's own, or `token_and_mean`: the class token joined
    to the mean of the patch tokens, without registers. With a `cell_share` in (0, 1] the mean of the places (patch
    tokens, or places of a convolutional map) is over the cell alone: a square at the centre, this share of the input
    wide; it is the whole of `own` pooling. `strides` sets the stride of named convolutions, and
    `removed_layers` replaces named layers by the identity. Both keep a map of 5x5 at 40 px in networks for 224 px.
    Raises ValueError for an unknown architecture, option or layer, and for a side that the network cannot take.
    """

    by_stage = True  # a layer of fine-tuning is a stage of a convolutional network; a ViT has blocks only

    def __init__(  # its parameters are the keys of conf/model/*.yaml
        self,
        architecture: str,
        input_px: int,
        pretrained_img_size: int | None,
        pooling: Literal["own", "token_and_mean"],
        options: Mapping[str, Any],
        strides: Mapping[str, int],
        removed_layers: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        cell_share: float | None = None,
    ) -> None:
        super().__init__()
        self.input_px = input_px
        self.pretrained_img_size = pretrained_img_size
        self.pooling = pooling
        self.normalise = Normalise(mean, std)
        self.net = self._create(architecture, dict(options))
        for name, stride in strides.items():
            layer = _layer(self.net, name)
            if not hasattr(layer, "stride") or stride < 1:
                raise ValueError(
                    f"model.backbone.strides must be >= 1 and of layers with a stride, but got {name}: {stride}"
                )
            layer.stride = (stride, stride)
        for name in removed_layers:
            parent, _, leaf = name.rpartition(".")
            _layer(self.net, name)
            setattr(self.net.get_submodule(parent), leaf, nn.Identity())
        if cell_share is not None and not 0 < cell_share <= 1:
            raise ValueError(f"model.backbone.cell_share must be > 0 and at most 1, or null, but got {cell_share}")
        if cell_share is not None and self.net.num_features != self.net.head_hidden_size:
            raise ValueError(f"model.backbone.cell_share: {architecture} has layers behind its pooling")
        self.cell_share = cell_share
        if pooling == "token_and_mean" and getattr(self.net, "cls_token", None) is None:
            raise ValueError(f"model.backbone.pooling: {architecture} has no class token")
        self.num_features = self.net.head_hidden_size * (2 if pooling == "token_and_mean" else 1)

    def _create(self, architecture: str, options: dict[str, Any]) -> Any:
        weight_options = sorted({"pretrained", "checkpoint_path", "cache_dir"} & options.keys())
        weight_options += [key for key in options if key.startswith("pretrained_cfg")]
        if weight_options or not re.fullmatch(r"[\w.]+", architecture):
            raise ValueError(
                f"model.backbone.architecture must be a name of timm's whose options hold no "
                f"{weight_options or 'weights'}, but got {architecture}: weights come through model.weights"
            )
        if self.pretrained_img_size is not None:
            options["img_size"] = self.input_px
        try:
            net = timm.create_model(architecture, num_classes=0, **options)
        except Exception as error:  # options reach each architecture's own code, which raises whatever it raises
            raise ValueError(f"model.backbone: timm cannot build {architecture} with {options}: {error!r}") from error
        if not hasattr(net, "head_hidden_size"):
            raise ValueError(f"model.backbone: {architecture} with {options} has no fixed number of features")
        if self.pretrained_img_size is not None:
            self._check_side(architecture, net)
        return net

    def _check_side(self, architecture: str, net: Any) -> None:
        patch_px = net.patch_embed.patch_size[0]
        if self.input_px % patch_px or self.input_px < 2 * patch_px:
            raise ValueError(
                f"model.backbone.input_px of {architecture} must be a multiple of its patches' {patch_px} px, at least "
                f"two patches ({', '.join(str(n * patch_px) for n in range(2, 9))} ...), but got {self.input_px}"
            )

    def check_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise ValueError unless the tensors are exactly those of the network at its published side."""
        self._set_side(self.pretrained_img_size)
        check_fit(self.net.state_dict(), tensors)
        self._set_side(self.input_px)

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Load published weights that `check_published` accepts, then resample their positions to the input side."""
        self._set_side(self.pretrained_img_size)
        self.net.load_state_dict(tensors)
        self._set_side(self.input_px)

    def _set_side(self, side_px: int | None) -> None:
        if self.pretrained_img_size is not None and side_px is not None and self.pretrained_img_size != self.input_px:
            self.net.set_input_size(img_size=(side_px, side_px))

    def _groups(self) -> list[list[str]]:
        groups = group_parameters(self.net, self.net.group_matcher(coarse=self.by_stage))
        return [[f"net.{name}" for name in groups[i]] for i in sorted(groups)]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features"]:
        x = self.normalise(x)
        if self.pooling == "own" and self.cell_share is None:
            return self.net(x)
        found = self.net.forward_features(x)
        if self.cell_share is None:
            mean = found[:, self.net.num_prefix_tokens :].mean(dim=1)
        else:
            mean = mean_of_cell(self._places(found), self.cell_share)
        return mean if self.pooling == "own" else torch.cat([found[:, 0], mean], dim=1)

    def feature_map(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b channels rows columns"]:
        return self._places(self.net.forward_features(self.normalise(x)))

    def _places(self, found: Tensor) -> Float[Tensor, "b channels rows columns"]:
        """What the network finds at each place of the input, from a map or from tokens."""
        if found.ndim == 4:
            return found.permute(0, 3, 1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else found
        patches = found[:, getattr(self.net, "num_prefix_tokens", 0) :].transpose(1, 2)
        return patches.unflatten(2, (isqrt(patches.shape[2]), -1))


def mean_of_cell(places: Float[Tensor, "b channels rows columns"], share: float) -> Float[Tensor, "b channels"]:
    """The mean over a square at the centre, `share` of the side wide; a place counts by its part in the square."""
    rows, columns = (places.new_tensor(_parts_in_cell(n, share)) for n in places.shape[2:])
    return (places * rows[:, None] * columns).sum(dim=(2, 3))


def _parts_in_cell(n: int, share: float) -> list[float]:
    """Of n places in a row, each one's part of the middle `share` of the row; they sum to 1."""
    first, last = (1 - share) / 2, (1 + share) / 2
    return [max(0.0, min((i + 1) / n, last) - max(i / n, first)) / share for i in range(n)]


def _layer(net: nn.Module, name: str) -> Any:
    """A layer by its name; raises ValueError that lists the layers beside it."""
    parent, beside = net, ""
    for part in name.split("."):
        children = dict(parent.named_children())
        if part not in children:
            where = f"{beside.rstrip('.')} has" if beside else "it has"
            raise ValueError(
                f"model.backbone.strides and removed_layers must name layers of the network, but got {name!r}: {where} "
                f"{', '.join(children) or 'none'}"
            )
        parent, beside = children[part], f"{beside}{part}."
    return parent
