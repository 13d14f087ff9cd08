"""Ways of fitting a model by gradients: which parameters move, and how fast."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from cellpatch.models.backbone import Backbone, freeze_all_but


@dataclass(frozen=True, kw_only=True)
class FineTuning(ABC):
    """How a gradient descent goes.

    `warmup` is a part of all steps, `patience` epochs without a better score. Validated and kept is the weights'
    exponential average, whose span is all steps over `average_over` (0: the weights as they are). `weight_decay` is of
    tensors with more than one axis, so not of norms and biases, but of positions and class tokens too, which others
    often leave out.
    """

    lr: float
    weight_decay: float
    warmup: float
    batch_size: int
    label_smoothing: float
    class_weights: Literal["none", "balanced"]
    average_over: int
    patience: int

    pretrained: ClassVar[bool] = True  # whether it starts from published weights

    def __post_init__(self) -> None:
        limits = {
            "lr": self.lr > 0,
            "weight_decay": self.weight_decay >= 0,
            "warmup": 0 <= self.warmup < 1,
            "batch_size": self.batch_size >= 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "average_over": self.average_over >= 0,
            "patience": self.patience >= 1,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(f"adapt.{name} is out of its range: {getattr(self, name)}")

    @abstractmethod
    def prepare(self, backbone: Backbone) -> dict[str, float]:
        """Freeze what does not move and give the trained parameters' names, each with its share of `lr`."""


@dataclass(frozen=True, kw_only=True)
class Scratch(FineTuning):
    """Every parameter, from random values."""

    pretrained: ClassVar[bool] = False

    def prepare(self, backbone: Backbone) -> dict[str, float]:
        return {name: 1.0 for name, _ in backbone.named_parameters()}


@dataclass(frozen=True, kw_only=True)
class LastLayer(FineTuning):
    """The last block (of a convolutional network: stage), at `block_rate` of the head's rate; the rest is frozen.

    The study lists FT_last beside linear probing, so its "last layer" is read as last block and head [P/O].
    """

    block_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("block_rate", self.block_rate)

    def prepare(self, backbone: Backbone) -> dict[str, float]:
        rates = dict.fromkeys(backbone.layers()[-1], self.block_rate)
        freeze_all_but(backbone, set(rates))
        return rates


@dataclass(frozen=True, kw_only=True)
class AllLayers(FineTuning):
    """Every parameter; each layer moves `layer_decay` times as fast as the next one, the last as fast as the head.

    Layer-wise decay: Clark et al., arXiv 2003.10555; Bao et al., arXiv 2106.08254.
    """

    layer_decay: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("layer_decay", self.layer_decay)

    def prepare(self, backbone: Backbone) -> dict[str, float]:
        layers = backbone.layers()
        return {name: self.layer_decay ** (len(layers) - 1 - i) for i, names in enumerate(layers) for name in names}


@dataclass(frozen=True, kw_only=True)
class Lora(FineTuning):
    """Low-rank updates (Hu et al., arXiv 2106.09685, through peft) of the layers whose names end in `targets`."""

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

    def prepare(self, backbone: Backbone) -> dict[str, float]:
        from peft import LoraConfig, inject_adapter_in_model  # a second to import

        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=list(self.targets)
        )
        inject_adapter_in_model(config, backbone)
        names = [name for name, _ in backbone.named_parameters() if ".lora_" in name]
        freeze_all_but(backbone, set(names))
        return dict.fromkeys(names, 1.0)


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"adapt.{name} must be in (0, 1], but got {value}")
