"""Published networks, built as their authors build them and not through cellpatch, with their files' names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

Tensors = dict[str, Tensor]


def _as_it_is(state: Tensors) -> Any:
    return state


@dataclass(frozen=True)
class Reference:
    """A published network: its library's own class and arguments, the file's content, and the tokens that it gives.

    `arguments` go to timm's VisionTransformer or to transformers' configuration. `content` makes the file of the
    network's state. `small` is a width with which heads and gated layers divide as in the network itself.
    """

    library: Literal["timm", "dinov2", "vit", "dinov3"]
    side: int
    patch: int
    width: int
    depth: int
    heads: int
    registers: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    content: Callable[[Tensors], Any] = _as_it_is
    with_mean: bool = False
    small: int = 0

    @property
    def small_width(self) -> int:
        return self.small or 8 * self.heads

    @property
    def num_features(self) -> int:
        return self.width * (2 if self.with_mean else 1)

    @property
    def places(self) -> int:
        return (self.side // self.patch) ** 2

    def build(self, width: int, depth: int, side: int) -> Any:
        """The network of another size, by its own library."""
        if self.library == "timm":
            return VisionTransformer(
                img_size=side,
                patch_size=self.patch,
                embed_dim=width,
                depth=depth,
                num_heads=self.heads,
                num_classes=0,
                reg_tokens=self.registers,
                **self.arguments,
            )
        import transformers as hugging_face

        settings = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": self.heads}
        settings |= {"patch_size": self.patch, "image_size": side, **self.arguments}
        if self.library == "vit":
            return hugging_face.ViTModel(hugging_face.ViTConfig(intermediate_size=4 * width, **settings))
        if self.library == "dinov3":
            settings |= {"intermediate_size": 4 * width, "num_register_tokens": self.registers}
            return hugging_face.DINOv3ViTModel(hugging_face.DINOv3ViTConfig(**settings))
        if self.registers:
            settings["num_register_tokens"] = self.registers
            return hugging_face.Dinov2WithRegistersModel(hugging_face.Dinov2WithRegistersConfig(**settings))
        return hugging_face.Dinov2Model(hugging_face.Dinov2Config(**settings))

    def file_of(self, network: Any) -> Any:
        """What the published file of this network holds."""
        if self.library == "timm":
            return self.content(network.state_dict())
        from transformers.core_model_loading import revert_weight_conversion

        return self.content(revert_weight_conversion(network, network.state_dict()))

    def features_of(self, network: Any, x: Tensor) -> Tensor:
        """Features of normalised pixels, as the authors take them."""
        tokens = network.forward_features(x) if self.library == "timm" else network(x).last_hidden_state
        if not self.with_mean:
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, 1 + self.registers :].mean(dim=1)], dim=1)


_FACEBOOK = [  # from transformers' names to those of DINOv2's own code
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"layer_scale(\d)\.lambda1$", r"ls\1.gamma"),
    (r"mlp\.weights_in\.", "mlp.w12."),
    (r"mlp\.weights_out\.", "mlp.w3."),
]


def _facebook(state: Tensors) -> Tensors:
    """Names of DINOv2's own code, with its mask token."""
    named: Tensors = {}
    for published, tensor in state.items():
        name = published
        if match := re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)", name):
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            named[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat(parts)
        elif ".attention.attention." not in name:
            for pattern, replacement in _FACEBOOK:
                name = re.sub(pattern, replacement, name)
            named[name] = tensor
    assert named["mask_token"].shape == state["embeddings.mask_token"].shape
    return named


def _facebook_checkpoint(state: Tensors) -> Any:
    return {"teacher": _facebook(state)}


def _dinov3_of_timm(state: Tensors) -> Tensors:
    """timm's names of DINOv3: one matrix for query, key and value."""
    names = {"embeddings.cls_token": "cls_token", "embeddings.register_tokens": "reg_token"}
    names |= {f"embeddings.patch_embeddings.{part}": f"patch_embed.proj.{part}" for part in ("weight", "bias")}
    named: Tensors = {}
    for published, tensor in state.items():
        name = re.sub(r"^(model\.)?layer\.", "blocks.", names.get(published, published))
        for ours, theirs in (
            ("attn.proj", "attention.o_proj"),
            ("mlp.fc1", "mlp.up_proj"),
            ("mlp.fc2", "mlp.down_proj"),
        ):
            name = name.replace(theirs, ours)
        name = re.sub(r"layer_scale(\d)\.lambda1$", r"gamma_\1", name)
        if "attention.q_proj.weight" in name:
            parts = [state[published.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            named[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
        elif not re.search(r"attention\.[kv]_proj|mask_token", name):
            named[name] = tensor
    return named


def _moco(state: Tensors) -> Any:
    """A checkpoint of MoCo v3's code: two networks with heads, a predictor, and what it needs to resume."""
    extra = torch.zeros(4, 4)
    named = {f"module.base_encoder.{name}": tensor for name, tensor in state.items()}
    named |= {f"module.momentum_encoder.{name}": tensor for name, tensor in state.items()}
    named |= {f"module.{network}_encoder.head.0.weight": extra for network in ("base", "momentum")}
    named |= {"module.base_encoder.head.1.running_mean": torch.zeros(4), "module.predictor.0.weight": extra}
    return {"epoch": 100, "arch": "vit_small", "state_dict": named, "optimizer": {"state": {}, "param_groups": []}}


def _image_tower(state: Tensors) -> Any:
    """The file of KEEP: its image tower, its text tower, and what joins the two."""
    named = {f"visual.{name}": tensor for name, tensor in state.items()}
    extra = {"visual_head.0.weight": torch.zeros(4, 4), "text.embeddings.word_embeddings.weight": torch.zeros(4, 4)}
    return named | extra | {"logit_scale": torch.zeros(())}


_SCALED: dict[str, Any] = {"init_values": 1e-5}
_GATED: dict[str, Any] = {**_SCALED, "mlp_ratio": 2.66667 * 2, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
_NO_CLASS_PLACE: dict[str, Any] = {"no_embed_class": True}
_EPSILON: dict[str, Any] = {"layer_norm_eps": 1e-6}
_SWIGLU: dict[str, Any] = {**_EPSILON, "use_swiglu_ffn": True}
_VIRCHOW: dict[str, Any] = {**_GATED, "mlp_ratio": 5.3375}


def _small(patch: int, side: int = 224, **other: Any) -> Reference:
    return Reference("timm", side, patch, 384, 12, other.pop("heads", 6), **other)


def _base(patch: int) -> Reference:
    return Reference("timm", 224, patch, 768, 12, 12)


def _dinobloom(width: int, depth: int, heads: int, **arguments: Any) -> Reference:
    return Reference("dinov2", 224, 14, width, depth, heads, arguments={**_EPSILON, **arguments}, content=_facebook)


def _dinov3(width: int, depth: int, heads: int) -> Reference:
    without_bias = {"query_bias": False, "value_bias": False}  # zeros in Meta's files, left out of timm's
    return Reference("dinov3", 256, 16, width, depth, heads, 4, without_bias, _dinov3_of_timm)


# Sizes and arguments are those of the authors' code, configuration or model card: see each model's YAML file.
REFERENCES: dict[str, Reference] = {
    "digepath": Reference("timm", 224, 16, 1024, 24, 16, arguments=_SCALED),
    "dinobloom_s": _dinobloom(384, 12, 6),
    "dinobloom_b": _dinobloom(768, 12, 12),
    "dinobloom_l": _dinobloom(1024, 24, 16),
    "dinobloom_g": _dinobloom(1536, 40, 24, use_swiglu_ffn=True),
    "dinov2_s": Reference("timm", 518, 14, 384, 12, 6, arguments=_SCALED),
    "dinov2_l": Reference("timm", 518, 14, 1024, 24, 16, arguments=_SCALED),
    "dinov3_s": _dinov3(384, 12, 6),
    "dinov3_b": _dinov3(768, 12, 12),
    "dinov3_l": _dinov3(1024, 24, 16),
    "gigapath_flash": Reference("timm", 224, 16, 384, 12, 6, arguments={**_GATED, "mlp_ratio": 2048 / 384}),
    "gpfm": Reference("timm", 224, 14, 1024, 24, 16, arguments=_SCALED),
    "h0_mini": Reference("timm", 224, 14, 768, 12, 12, 4, _GATED | _NO_CLASS_PLACE, with_mean=True),
    "h_optimus_0": Reference("timm", 224, 14, 1536, 40, 24, 4, _GATED | _NO_CLASS_PLACE),
    "h_optimus_1": Reference("timm", 224, 14, 1536, 40, 24, 4, _GATED | _NO_CLASS_PLACE),
    "hibou_b": Reference("dinov2", 224, 14, 768, 12, 12, 4, _SWIGLU),
    "hibou_l": Reference("dinov2", 224, 14, 1024, 24, 16, 4, _SWIGLU, small=512),
    "kaiko_s16": _small(16),
    "kaiko_s8": _small(8),
    "kaiko_b16": _base(16),
    "kaiko_b8": _base(8),
    "kaiko_l14": Reference("timm", 518, 14, 1024, 24, 16, 4, _SCALED | _NO_CLASS_PLACE),
    "keep": Reference("timm", 224, 16, 1024, 24, 16, arguments=_SCALED, content=_image_tower),
    "lemon_s": _small(8, 40, heads=12, arguments={"mlp_ratio": 4, "qkv_bias": True}, content=_moco),
    "lunit_s16": _small(16),
    "lunit_s8": _small(8),
    "midnight_12k": Reference("dinov2", 518, 14, 1536, 40, 24, arguments=_SWIGLU, with_mean=True),
    "openmidnight": Reference("dinov2", 224, 14, 1536, 40, 24, 4, _SWIGLU, content=_facebook_checkpoint),
    "phikon": Reference("vit", 224, 16, 768, 12, 12, arguments={"layer_norm_eps": 1e-12}),
    "phikon_v2": Reference("dinov2", 224, 16, 1024, 24, 16, arguments=_EPSILON),
    "prov_gigapath": Reference("timm", 224, 16, 1536, 40, 24, arguments=_GATED),
    "stainnet_s": _small(16),
    "stainnet_b": _base(16),
    "uni": Reference("timm", 224, 16, 1024, 24, 16, arguments=_SCALED),
    "uni2_h": Reference("timm", 224, 14, 1536, 24, 24, 8, _GATED | _NO_CLASS_PLACE),
    "virchow": Reference("timm", 224, 14, 1280, 32, 16, arguments=_VIRCHOW, with_mean=True, small=160),
    "virchow2": Reference("timm", 224, 14, 1280, 32, 16, 4, _VIRCHOW, with_mean=True, small=160),
}
