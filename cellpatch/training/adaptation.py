"""Ways of fitting a model by gradients: which parameters are trained, and at which learning rate."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import nn

from cellpatch.models.backbone import Backbone, freeze_all_but
from cellpatch.training.objective import Objective
from cellpatch.training.optimizers import OptimizerName


@dataclass(frozen=True, kw_only=True)
class FineTuning(Objective, ABC):
    """Settings of training by gradients.

    `optimizer` is AdamW, or Muon for matrices and kernels between hidden layers. Beside Muon, AdamW trains the rest at
    `adamw_rate` times `lr`. `updates` is the budget, with at least
    `min_epochs` passes through the training cells; `plan_budget` states what replaces it. It is validated up to
    `validations` times, and ends after `patience` of them without a better score. `warmup` is a share of all updates.
    What is validated and kept is an exponential moving average of the weights (EMA). It spans all updates divided by
    `average_over`; 0 keeps the weights as they are. `weight_decay` applies to tensors with more than one axis: not to
    norms and biases, but to positions and class tokens too, which other recipes often leave out. Raises ValueError for
    a value out of its range.
    """

    optimizer: OptimizerName
    lr: float
    adamw_rate: float
    weight_decay: float
    warmup: float
    batch_size: int
    average_over: int
    updates: int
    min_epochs: int
    validations: int
    patience: int

    pretrained: ClassVar[bool] = True  # starts from published weights

    def __post_init__(self) -> None:
        limits = {
            "lr": self.lr > 0,
            "adamw_rate": 0 < self.adamw_rate < inf,
            "weight_decay": self.weight_decay >= 0,
            "warmup": 0 <= self.warmup < 1,
            "batch_size": self.batch_size >= 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "adjust_tau": 0 < self.adjust_tau < inf,
            "focal_gamma": 0 <= self.focal_gamma < inf,
            "mixup": 0 <= self.mixup < inf,
            "cutmix": 0 <= self.cutmix < inf,
            "average_over": self.average_over >= 0,
            "updates": self.updates >= 1,
            "min_epochs": self.min_epochs >= 0,
            "validations": self.validations >= 1,
            "patience": self.patience >= 1,
        }
        for name, within in limits.items():
            if not within:
                raise ValueError(f"adapt.{name} is out of its range: {getattr(self, name)}")

    @abstractmethod
    def freeze_and_scale_lr(self, backbone: Backbone) -> dict[str, float]:
        """Freeze the parameters that are not trained; return the others' names with their factors of `lr`."""


@dataclass(frozen=True, kw_only=True)
class Scratch(FineTuning):
    """Every parameter, from random values."""

    pretrained: ClassVar[bool] = False

    def freeze_and_scale_lr(self, backbone: Backbone) -> dict[str, float]:
        return {name: 1.0 for name, _ in backbone.named_parameters()}


@dataclass(frozen=True, kw_only=True)
class LastLayer(FineTuning):
    """The last block (of a convolutional network: the last stage) and the head; everything else is frozen.

    The block's learning rate is `block_rate` times the head's. arXiv 2603.04081 lists FT_last beside linear probing;
    we read its "last layer" as the last block and the head.
    """

    block_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("block_rate", self.block_rate)

    def freeze_and_scale_lr(self, backbone: Backbone) -> dict[str, float]:
        lr_factors = dict.fromkeys(backbone.layers()[-1], self.block_rate)
        freeze_all_but(backbone, set(lr_factors))
        return lr_factors


@dataclass(frozen=True, kw_only=True)
class AllLayers(FineTuning):
    """Every parameter, with layer-wise decay of the learning rate (arXiv 2003.10555, arXiv 2106.08254).

    The last layer has the head's rate; each layer before has `layer_decay` times the rate of the next one.
    """

    layer_decay: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("layer_decay", self.layer_decay)

    def freeze_and_scale_lr(self, backbone: Backbone) -> dict[str, float]:
        layers = backbone.layers()
        return {name: self.layer_decay ** (len(layers) - 1 - i) for i, names in enumerate(layers) for name in names}


@dataclass(frozen=True, kw_only=True)
class Lora(FineTuning):
    """Low-rank updates (Hu et al., arXiv 2106.09685; peft) of the layers whose names end in one of `targets`.

    Raises ValueError for a target that matches no layer, or one that has no matrix or kernel: peft ignores names that
    match nothing as long as another one matches.
    """

    rank: int
    alpha: int
    dropout: float
    targets: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError(
                f"adapt.rank must be >= 1, alpha > 0, dropout in [0, 1) and targets name layers, "
                f"but got {self.rank}, {self.alpha}, {self.dropout} and {self.targets}"
            )

    def freeze_and_scale_lr(self, backbone: Backbone) -> dict[str, float]:
        from peft import LoraConfig, inject_adapter_in_model  # takes a second to import

        names = [name for name, _ in backbone.named_modules()]
        unknown = [each for each in self.targets if not any(f".{name}".endswith(f".{each}") for name in names)]
        if unknown:
            raise ValueError(f"adapt.targets must name layers of the model, but got {unknown}; {_updatable(backbone)}")
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=list(self.targets)
        )
        try:
            inject_adapter_in_model(config, backbone)
        except ValueError as error:
            raise ValueError(f"adapt.targets={self.targets}: {error}; {_updatable(backbone)}") from error
        names = [name for name, _ in backbone.named_parameters() if ".lora_" in name]
        freeze_all_but(backbone, set(names))
        return dict.fromkeys(names, 1.0)


def _updatable(backbone: Backbone) -> str:
    """The layers that LoRA can update, by the last parts of their names."""
    layers = [name for name, each in backbone.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    return f"it has {', '.join(sorted({name.rpartition('.')[2] for name in layers}))}"


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"adapt.{name} must be in (0, 1], but got {value}")
