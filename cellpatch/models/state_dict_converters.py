"""From the names that tensors have in a published file to timm's names of today: pure functions."""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def from_timm(tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> Tensors:
    """timm's own names, less a classifier where none is wanted."""
    classifier = re.compile(r"(head|fc|classifier|head\.fc)\.(weight|bias)$")
    return {name: tensor for name, tensor in tensors.items() if name in wanted or not classifier.match(name)}


def in_order(tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> Tensors:
    """The wanted tensors under other names, in the same order; a classifier (weight, bias) may follow."""
    if len(tensors) - len(wanted) not in (0, 2):
        raise ValueError(f"has {len(tensors)} tensors instead of {len(wanted)} and at most a classifier's 2")
    return dict(zip(wanted, tensors.values(), strict=False))


def from_ctranspath(tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> Tensors:
    """Names of timm 0.5.4, with which CTransPath was published.

    A stage's down-sampling then closed the stage and now opens the next one; masks and indices of the
    windows were stored and are now computed; a classifier is left out.
    """
    computed = re.compile(r".*(attn_mask|relative_position_index)$|head\.")
    return {
        re.sub(r"^layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", name): tensor
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


def from_transformers_dinov2(tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> Tensors:
    """Names of Hugging Face's Dinov2Model; its query, key and value are one matrix here, its mask token is unused."""
    named: Tensors = {}
    for published, tensor in tensors.items():
        name = published
        for pattern, replacement in _DINOV2:
            name = re.sub(pattern, replacement, name)
        if name != "embeddings.mask_token":
            named[name] = tensor
    for name in list(named):
        if ".attention.attention.query." in name:
            parts = [name.replace("query", part) for part in ("query", "key", "value")]
            if all(part in named for part in parts):
                whole = name.replace("attention.attention.query", "attn.qkv")
                named[whole] = torch.cat([named.pop(part) for part in parts])
    return named


STATE_DICT_CONVERTERS: dict[str, Callable[[Mapping[str, Tensor], Sequence[str]], Tensors]] = {
    "timm": from_timm,
    "in_order": in_order,
    "ctranspath": from_ctranspath,
    "transformers_dinov2": from_transformers_dinov2,
}
