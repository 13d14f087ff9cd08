"""The contract of a backbone, and functions that work on any of them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cellpatch.runtime.memory import machine_memory


class Backbone(nn.Module):
    """Maps [b, 3, input_px, input_px] in [0, 1] to features [b, num_features].

    Frozen parameters get no gradient. A module without trained parameters stays in eval mode when `train` is called,
    so its batch norms keep their statistics.
    """

    fixed: ClassVar[bool] = False  # computes its features without weights
    input_px: int
    num_features: int

    def feature_map(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b channels rows columns"]:
        """Features of the places of the input, before they are pooled; raises ValueError where there is no map."""
        raise ValueError(f"{type(self).__name__} has no map of features")

    def layers(self) -> list[list[str]]:
        """Names of the parameters from input to output, one list per layer of layer-wise fine-tuning."""
        layers: list[list[str]] = []
        for names in self._groups():
            if layers and all(self.get_parameter(name).ndim < 2 for name in names):
                layers[-1] += names  # a final norm belongs to the block before it
            else:
                layers.append(names)
        return layers

    def _groups(self) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            groups.setdefault(name.partition(".")[0], []).append(name)
        return list(groups.values())

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        if mode:
            for _, part in frozen_parts(self):
                part.eval()
        return self


class PretrainableBackbone(Backbone):
    """A backbone that can load published weights; `net` is the network that they were published for."""

    net: Any

    @abstractmethod
    def check_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise ValueError unless the tensors are exactly those of the network as it was published."""

    @abstractmethod
    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Load tensors that `check_published` accepts."""


def check_size(backbone: Backbone) -> None:
    """Raise ValueError if a backbone, which may be on the meta device, has more parameters than memory can hold."""
    needed, memory = sum(each.nbytes for each in backbone.parameters()), machine_memory()
    if needed > memory:
        raise ValueError(
            f"model.backbone has parameters of {needed / 1e9:.1f} GB, more than the {memory / 1e9:.1f} GB of this "
            "machine's memory"
        )


def check_shapes(backbone: Backbone) -> None:
    """Raise ValueError unless a backbone on the meta device maps its input to [b, num_features]."""
    side, expected = backbone.input_px, (2, backbone.num_features)
    try:
        shape = backbone.eval()(torch.empty(2, 3, side, side, device="meta")).shape
    except Exception as error:  # an architecture with unusual options raises whatever it raises
        raise ValueError(f"model.backbone cannot take an input of {side} px: {error}") from error
    if shape != expected:
        raise ValueError(f"model.backbone must map two cells to features {expected}, but gives {tuple(shape)}")


def map_shape(backbone: Backbone) -> tuple[int, int]:
    """Channels and side of a square map of features, of a backbone on the meta device; raises ValueError without one.

    The side divides the input's.
    """
    side = backbone.input_px
    shape = tuple(backbone.eval().feature_map(torch.empty(2, 3, side, side, device="meta")).shape)
    if len(shape) != 4 or shape[2] != shape[3] or side % shape[3]:
        raise ValueError(f"{type(backbone).__name__} has no square map that divides {side} px, but one of {shape}")
    return shape[1], shape[2]


def freeze_all_but(backbone: Backbone, trained: set[str]) -> None:
    """Require gradients for the named parameters only."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad = name in trained
    backbone.train(backbone.training)


def frozen_parts(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the largest submodules (or `module` itself) that have only frozen parameters."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from frozen_parts(child, f"{name}.{child_name}" if name else child_name)


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The state without frozen tensors: everything that training can change."""
    prefixes = tuple(f"{name}." if name else "" for name, _ in frozen_parts(module))
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    state = module.state_dict()
    return {name: value for name, value in state.items() if not name.startswith(prefixes) and name not in frozen}


def load_trained(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `trained_state` returned; raises ValueError if names, shapes or types differ from it."""
    check_fit(trained_state(module), state)
    module.load_state_dict(state, strict=False)


def check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError that lists the first differences unless the tensors have the expected names, shapes and types.

    Types are real, complex and whole numbers; their precision may differ.
    """
    shared = [name for name in expected if name in tensors]
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of other shapes": [
            f"{name} {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
            for name in shared
            if tensors[name].shape != expected[name].shape
        ],
        "of other types": [
            f"{name} {tensors[name].dtype} instead of {expected[name].dtype}"
            for name in shared
            if _kind(tensors[name]) != _kind(expected[name])
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {what}: {names[:5]}" for what, names in problems.items() if names)
        raise ValueError(f"does not fit the architecture: tensors {listed}")


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std must have 3 values, std > 0, but got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return (x - self.mean) / self.std


def count_parameters(model: nn.Module) -> int:
    """Number of all parameters, trained and frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(backbone: Backbone) -> int:
    """Multiply-accumulates of a forward pass of one cell (convolutions and matrix products).

    On the meta device it needs neither memory nor arithmetic.
    """
    was_training = backbone.training
    backbone.eval()
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 3, backbone.input_px, backbone.input_px, device=device))
    backbone.train(was_training)
    return counter.get_total_flops() // 2
