"""Rename the tensors of a published file to the names that today's timm uses: pure functions."""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def from_timm(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """timm's own names; drops a classifier that is not among `names`."""
    classifier = re.compile(r"(head|fc|classifier|head\.fc)\.(weight|bias)$")
    return {name: tensor for name, tensor in tensors.items() if name in names or not classifier.match(name)}


def in_order(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """The tensors of `names` in the same order under other names; drops a classifier (weight, bias) that may follow."""
    if len(tensors) - len(names) not in (0, 2):
        raise ValueError(f"has {len(tensors)} tensors instead of {len(names)} and at most a classifier's 2")
    return dict(zip(names, tensors.values(), strict=False))


def from_ctranspath(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Names of timm 0.5.4, with which CTransPath was published.

    In 0.5.4 a stage's down-sampling ended the stage; today it begins the next one. Masks and indices of the windows
    were stored; today they are computed. A classifier is dropped.
    """
    computed = re.compile(r".*(attn_mask|relative_position_index)$|head\.")
    return {
        re.sub(r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) + 1}.downsample", name): tensor
        for name, tensor in tensors.items()
        if not computed.match(name)
    }


_TRANSFORMERS = [
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
]
_DINOV2 = [
    *_TRANSFORMERS,
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
]
_VIT = [
    *_TRANSFORMERS,
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\d)\.output\.dense\.", r"\1.mlp.fc2."),
]


def from_transformers_dinov2(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Names of Hugging Face's Dinov2Model, also with registers; joins query, key and value into one matrix."""
    return from_dinov2(_with_joined_qkv(_renamed(tensors, _DINOV2)), names)


def from_transformers_vit(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Names of Hugging Face's ViTModel; joins query, key and value, and drops the pooler, which no feature needs."""
    without_pooler = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.dense.")}
    return _with_joined_qkv(_renamed(without_pooler, _VIT))


def from_dinov2(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Names of DINOv2's own code; drops the mask token.

    With registers, the class token's position is added to it: timm has positions of patches alone.
    """
    renamed = _renamed(tensors, [(r"\.mlp\.w12\.", ".mlp.fc1."), (r"\.mlp\.w3\.", ".mlp.fc2.")])
    renamed.pop("mask_token", None)
    if {"register_tokens", "cls_token", "pos_embed"} <= renamed.keys():
        positions = renamed["pos_embed"].float()
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"].float() + positions[:, :1]
        renamed["pos_embed"] = positions[:, 1:]
    return renamed


def from_moco(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """timm's names of the network that MoCo v3 trains; drops its head, its predictor and the momentum's network."""
    other = re.compile(r"module\.(momentum_encoder|predictor|base_encoder\.head)\.")
    encoder = {name: tensor for name, tensor in tensors.items() if not other.match(name)}
    return _renamed(encoder, [(r"^module\.base_encoder\.", "")])


def from_visual(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """timm's names of the image tower of images and texts; drops the texts' tower and what joins the two."""
    other = re.compile(r"(text|visual_head)\.|logit_scale$")
    tower = {name: tensor for name, tensor in tensors.items() if not other.match(name)}
    return _renamed(tower, [(r"^visual\.", "")])


def _renamed(tensors: Mapping[str, Tensor], patterns: Sequence[tuple[str, str]]) -> Tensors:
    """The tensors with every pattern in their names replaced, in order."""
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, replacement in patterns:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _with_joined_qkv(tensors: Tensors) -> Tensors:
    joined = dict(tensors)
    for name in tensors:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if ".attention.attention.query." in name and all(part in joined for part in parts):
            together = name.replace("attention.attention.query", "attn.qkv")
            joined[together] = torch.cat([joined.pop(part) for part in parts])
    return joined


# By the `layout` of Weights.
STATE_DICT_CONVERTERS: dict[str, Callable[[Mapping[str, Tensor], Sequence[str]], Tensors]] = {
    "timm": from_timm,
    "in_order": in_order,
    "ctranspath": from_ctranspath,
    "transformers_dinov2": from_transformers_dinov2,
    "transformers_vit": from_transformers_vit,
    "dinov2": from_dinov2,
    "moco": from_moco,
    "visual": from_visual,
}
