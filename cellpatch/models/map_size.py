"""The map that a network of timm pools over, and the strides that its YAML gives up for a larger one."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cellpatch.models.backbone import Backbone
from cellpatch.models.spec import ModelSpec
from cellpatch.models.timm import TimmBackbone

SMALL = 3  # a map of this side or less leaves few places to pool over; those of conf/model have 5
_SHARE = 8  # input side over map side, of those of conf/model


@dataclass(frozen=True, eq=False)  # compared by identity
class Halving:
    """Layers that take a map from one side to a smaller one: a convolution, and that of the shortcut beside it."""

    layers: Mapping[str, nn.Module]
    before: int
    after: int

    def __str__(self) -> str:
        return f"{' and '.join(self.layers)} ({self.before} to {self.after})"


@dataclass(frozen=True)
class Edit:
    """Values of `strides` and `removed_layers` of a model's YAML, and the side of the map that they leave."""

    strides: Mapping[str, int]
    removed_layers: Sequence[str]
    map_px: int

    def __str__(self) -> str:
        strides = ", ".join(f"{name}: {stride}" for name, stride in self.strides.items())
        return f"strides: {{{strides}}} and removed_layers: [{', '.join(self.removed_layers)}]"


def map_side(backbone: Backbone) -> int | None:
    """The side of the map before pooling, of a backbone on the meta device; None for tokens, and for other classes."""
    if not isinstance(backbone, TimmBackbone):
        return None
    side = backbone.input_px
    found = backbone.eval().net.forward_features(torch.empty(2, 3, side, side, device="meta"))
    is_map = found.ndim == 4 and backbone.pretrained_img_size is None and found.shape[2] == found.shape[3]
    return int(found.shape[2]) if is_map else None


def advice(model: ModelSpec) -> str | None:
    """What to write into the YAML of a model of timm so that a larger map is left; None where nothing is known."""
    if model.backbone_class is not TimmBackbone or model.arguments["pretrained_img_size"] is not None:
        return None
    plain = _build(model, {}, [])
    if plain is None:
        return None
    halvings = _halvings(plain)
    edit = _edit(model, halvings)
    named = f"the layers of {model.arguments['architecture']} that shrink it are {', '.join(map(str, halvings))}"
    if edit is None:
        return named
    side = f"{edit.map_px}x{edit.map_px}"
    return f"for a map of {side} write into conf/model/{model.name}.yaml, below backbone: {edit} ({named})"


def _edit(model: ModelSpec, halvings: Sequence[Halving]) -> Edit | None:
    """Give up as few halvings as leave an eighth of the input, the first and the last before others."""
    wanted = -(-model.input_px // _SHARE)
    order = list(dict.fromkeys([*halvings[:1], *halvings[-1:], *halvings[1:-1]]))
    for n in range(len(order) + 1):
        for given_up in itertools.combinations(order, n):
            layers = {name: layer for halving in given_up for name, layer in halving.layers.items()}
            removed = [name for name, layer in layers.items() if isinstance(layer, nn.AvgPool2d)]
            strides = {name: 1 for name in layers if name not in removed}
            built = _build(model, strides, removed)
            side = None if built is None else map_side(built)
            if side is not None and side >= wanted:
                return Edit(strides, removed, side)
    return None


def _build(model: ModelSpec, strides: Mapping[str, int], removed: Sequence[str]) -> TimmBackbone | None:
    """The network without memory, with these strides; None if it cannot be built or take its input."""
    arguments: dict[str, Any] = {**model.arguments, "strides": strides, "removed_layers": removed}
    try:
        with torch.device("meta"):
            backbone = TimmBackbone(**arguments)
        map_side(backbone)
    except Exception:  # options reach an architecture's own code, which raises whatever it raises
        return None
    return backbone


def _halvings(backbone: TimmBackbone) -> list[Halving]:
    """From input to output; layers of the same two sides are one halving."""
    by_sides: dict[tuple[int, int], dict[str, nn.Module]] = {}

    def record(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if inputs[0].ndim == output.ndim == 4 and after < before:
            by_sides.setdefault((before, after), {})[name] = layer

    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output, name=name: record(name, layer, inputs, output))
        for name, layer in _with_stride(backbone.net)
    ]
    map_side(backbone)
    for hook in hooks:
        hook.remove()
    return [Halving(layers, before, after) for (before, after), layers in by_sides.items()]


def _with_stride(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            yield name, layer
