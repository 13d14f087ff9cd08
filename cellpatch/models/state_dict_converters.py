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


_DINOV2 = [
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
]


def from_transformers_dinov2(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Names of Hugging Face's Dinov2Model; joins query, key and value into one matrix and drops the mask token."""
    renamed: Tensors = {}
    for published, tensor in tensors.items():
        name = published
        for pattern, replacement in _DINOV2:
            name = re.sub(pattern, replacement, name)
        if name != "embeddings.mask_token":
            renamed[name] = tensor
    for name in list(renamed):
        if ".attention.attention.query." in name:
            parts = [name.replace("query", part) for part in ("query", "key", "value")]
            if all(part in renamed for part in parts):
                joined = name.replace("attention.attention.query", "attn.qkv")
                renamed[joined] = torch.cat([renamed.pop(part) for part in parts])
    return renamed


# By the `layout` of Weights.
STATE_DICT_CONVERTERS: dict[str, Callable[[Mapping[str, Tensor], Sequence[str]], Tensors]] = {
    "timm": from_timm,
    "in_order": in_order,
    "ctranspath": from_ctranspath,
    "transformers_dinov2": from_transformers_dinov2,
}
