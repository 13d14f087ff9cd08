"""The one LightningModule: how a network is trained by gradients."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain
from math import cos, exp, pi
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from cellpatch.adapt import Schedule
from cellpatch.augment import KorniaAugment
from cellpatch.data.datamodule import Batch, to_pixels
from cellpatch.models.backbone import trained_state
from cellpatch.network import Network
from cellpatch.optics import DrawnOptics, Optics


class Average:
    """The exponential average of a network's trained tensors, in a copy of it that shares what is frozen.

    The first update takes the tensors as they are; each later one keeps `keep` of the average. Counters are copied.
    """

    def __init__(self, network: Network, keep: float) -> None:
        trained = trained_state(network)
        tensors = chain(network.named_parameters(), network.named_buffers())
        shared = {id(tensor): tensor for name, tensor in tensors if name not in trained}
        self.network = deepcopy(network, shared).eval()
        own = trained_state(self.network)
        self._pairs = [(own[name], value) for name, value in trained.items() if not value.is_floating_point()]
        floats = [name for name, value in trained.items() if value.is_floating_point()]
        self._own, self._theirs = [own[name] for name in floats], [trained[name] for name in floats]
        self._keep, self._begun = keep, False

    def update(self) -> None:
        """Take in the tensors as they are now."""
        torch._foreach_lerp_(self._own, self._theirs, 1 - self._keep if self._begun else 1.0)
        for own, value in self._pairs:
            own.copy_(value)
        self._begun = True


class Classifier(pl.LightningModule):
    """Train a network by gradients.

    `rates` are the trained backbone parameters' shares of the learning rate; the head's is 1. `augment` and `optics`
    (the network's, or one that draws a blur) are those of training, on the device. AdamW with a linear warm-up and a
    cosine to zero; vectors (norms, biases) are not decayed. Validated and kept is an exponential average of the
    weights. A checkpoint holds what is trained, not what is frozen.
    """

    average: Average
    class_weights: Tensor | None

    def __init__(
        self,
        network: Network,
        n_classes: int,
        schedule: Schedule,
        rates: Mapping[str, float],
        augment: KorniaAugment | None,
        optics: Optics | DrawnOptics,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.rates = {f"backbone.{name}": rate for name, rate in rates.items()}
        self.augment = augment
        self.optics = optics
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.val_f1 = MulticlassF1Score(n_classes, average="macro")
        self.val_accuracy = MulticlassAccuracy(n_classes, average="micro")

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        """Logits of stored crops."""
        return self.network(crops)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        crops, labels, _ = batch
        if self.augment is None:
            x = to_pixels(self.optics.trim(crops, 0))
        else:
            x = self.augment(to_pixels(self.optics.trim(crops, self.augment.shift_px)))
        logits = self.network.head(self.network.backbone(self.optics(x)))
        loss = self._loss(logits, labels, self.schedule.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels), prog_bar=True)
        return loss

    def on_train_start(self) -> None:
        over = self.schedule.average_over
        steps = self.trainer.num_training_batches * (self.trainer.max_epochs or 1)
        self.average = Average(self.network, exp(-over / steps) if over else 0.0)

    def on_train_batch_end(self, *_: Any) -> None:
        self.average.update()

    def validation_step(self, batch: Batch, index: int) -> None:
        crops, labels, _ = batch
        logits = self.average.network(crops)
        self.val_f1(logits, labels)
        self.val_accuracy(logits, labels)
        n = len(labels)
        self.log("val_loss", self._loss(logits, labels, 0.0), batch_size=n)
        self.log("val_macro_f1", self.val_f1, batch_size=n, prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, batch_size=n)

    def _loss(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=smoothing)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = trained_state(self.average.network)

    def configure_optimizers(self) -> Any:
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((self.rates.get(name, 1.0), parameter.ndim > 1), []).append(parameter)
        schedule = self.schedule
        optimizer = torch.optim.AdamW(
            [
                {"params": members, "lr": rate * schedule.lr, "weight_decay": schedule.weight_decay * decayed}
                for (rate, decayed), members in groups.items()
            ]
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, steps, schedule.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear over the first `warmup` of the steps, then a cosine to zero."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + cos(pi * min(1.0, (step - rising) / max(1.0, steps - rising))))
