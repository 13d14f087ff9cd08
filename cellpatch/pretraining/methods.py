"""Ways of pretraining: settings of what comes before training from random values."""

from abc import abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from pydantic import JsonValue

from cellpatch.models.backbone import Backbone, map_shape
from cellpatch.pretraining.facts import Method
from cellpatch.training.adaptation import Scratch


@dataclass(frozen=True, kw_only=True)
class Pretraining(Scratch):
    """Training as `Scratch`, after `pretrain_updates` without labels from the same random values.

    `pretrain_batch_size`, `pretrain_lr`, `pretrain_weight_decay` and `pretrain_warmup` (a share of the updates) are
    those of the pretraining. Raises ValueError for a value out of its range.
    """

    pretrain_updates: int
    pretrain_batch_size: int
    pretrain_lr: float
    pretrain_weight_decay: float
    pretrain_warmup: float

    method: ClassVar[Method]

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {
            "pretrain_updates": (self.pretrain_updates >= 1, ">= 1"),
            "pretrain_batch_size": (self.pretrain_batch_size >= 2, ">= 2"),
            "pretrain_lr": (self.pretrain_lr > 0, "> 0"),
            "pretrain_weight_decay": (self.pretrain_weight_decay >= 0, ">= 0"),
            "pretrain_warmup": (0 <= self.pretrain_warmup < 1, "in [0, 1)"),
        }
        for name, (within, allowed) in limits.items():
            if not within:
                raise ValueError(f"adapt.{name} must be {allowed}, but got {getattr(self, name)}")

    @abstractmethod
    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ValueError for a backbone, on the meta device, that cannot be pretrained so."""

    def pretraining_settings(self) -> dict[str, JsonValue]:
        """The settings that decide the pretrained weights: those that `Scratch` lacks."""
        shared = {each.name for each in fields(Scratch)}
        return {name: value for name, value in asdict(self).items() if name not in shared}


@dataclass(frozen=True, kw_only=True)
class MaskedImages(Pretraining):
    """Masked image modelling: see `MaskedImageModel`.

    `mask_share` of the blocks of `mask_px` pixels of each input are hidden, at least one and never all. Raises
    ValueError for a value out of its range.
    """

    mask_share: float
    mask_px: int

    method: ClassVar[Method] = "mim"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask_share < 1:
            raise ValueError(f"adapt.mask_share must be in (0, 1), but got {self.mask_share}")
        if self.mask_px < 1:
            raise ValueError(f"adapt.mask_px must be >= 1, but got {self.mask_px}")

    def check_backbone(self, backbone: Backbone) -> None:
        if backbone.input_px % self.mask_px or backbone.input_px < 2 * self.mask_px:
            raise ValueError(
                f"adapt.mask_px must divide the input of {backbone.input_px} px into 2 blocks a side or more, "
                f"but got {self.mask_px}"
            )
        try:
            map_shape(backbone)
        except ValueError as error:
            raise ValueError(f"masked image modelling needs a map of features: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Distillation(Pretraining):
    """Regression of a teacher's features: see `FeatureRegression`.

    `teacher` names a pretrained model of conf/model. `teacher_px` is the side of its input; None is that of its file.
    """

    teacher: str
    teacher_px: int | None

    method: ClassVar[Method] = "distil"

    def check_backbone(self, backbone: Backbone) -> None:
        """Any backbone fits."""
