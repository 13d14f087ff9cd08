"""The one LightningModule: pixels, augmentation, optics, backbone, head."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from cellpatch.augment import KorniaAugment
from cellpatch.data.datamodule import Batch, to_pixels
from cellpatch.models.backbone import Backbone
from cellpatch.optics import Optics


@dataclass(frozen=True)
class Adaptation:
    """How weights are trained; `warmup` is a part of all steps, `patience` epochs without a better score."""

    lr: float
    weight_decay: float
    warmup: float
    batch_size: int
    label_smoothing: float
    class_weights: Literal["none", "balanced"]
    patience: int

    def __post_init__(self) -> None:
        limits = {
            "lr": self.lr > 0,
            "weight_decay": self.weight_decay >= 0,
            "warmup": 0 <= self.warmup < 1,
            "batch_size": self.batch_size >= 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "patience": self.patience >= 1,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(f"adapt.{name} is out of its range: {getattr(self, name)}")


class Classifier(pl.LightningModule):
    """Train and apply a backbone with a linear head on stored crops.

    `augment` runs on the device during training only. AdamW with a linear warm-up and a cosine to zero;
    vectors (norms, biases) are not decayed.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        optics: Optics,
        augment: KorniaAugment | None,
        n_classes: int,
        adaptation: Adaptation,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, n_classes)
        self.optics = optics
        self.augment = augment
        self.adaptation = adaptation
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.val_f1 = MulticlassF1Score(n_classes, average="macro")
        self.val_accuracy = MulticlassAccuracy(n_classes, average="micro")

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        """Logits of stored crops."""
        return self.head(self.backbone(self.optics(to_pixels(self.optics.trim(crops, 0)))))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        crops, labels, _ = batch
        if self.augment is None:
            logits = self(crops)
        else:
            x = self.augment(to_pixels(self.optics.trim(crops, self.augment.shift_px)))
            logits = self.head(self.backbone(self.optics(x)))
        loss = self._loss(logits, labels, self.adaptation.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        crops, labels, _ = batch
        logits = self(crops)
        self.val_f1(logits, labels)
        self.val_accuracy(logits, labels)
        n = len(labels)
        self.log("val_loss", self._loss(logits, labels, 0.0), batch_size=n)
        self.log("val_macro_f1", self.val_f1, batch_size=n, prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, batch_size=n)

    def predict_step(self, batch: Batch, index: int) -> tuple[Tensor, Tensor]:
        """Places of the cells in their part, and their class probabilities in float32."""
        crops, _, place = batch
        return place.cpu(), self(crops).float().softmax(dim=1).cpu()

    def _loss(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=smoothing)

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.adaptation.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.adaptation.lr)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warm_cosine(step, steps, self.adaptation.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear over the first `warmup` of the steps, then a cosine to zero."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + cos(pi * min(1.0, (step - rising) / max(1.0, steps - rising))))
