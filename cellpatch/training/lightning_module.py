"""The LightningModule: how a network is trained by gradients."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from math import exp
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from cellpatch.data.augment import DeviceAugment
from cellpatch.data.batch_indices import IGNORE_INDEX
from cellpatch.data.datamodule import Batch
from cellpatch.models.backbone import load_trained, trained_state
from cellpatch.models.network import Network
from cellpatch.models.single_values import running_statistics_of_single_values
from cellpatch.optics.operator import Optics, RandomOptics, to_pixels
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.mixing import mix_crops
from cellpatch.training.objective import Labels, ObjectiveLoss, shares_of
from cellpatch.training.optimizers import cosine_schedule, make_optimizer


class EMA:
    """Exponential moving average of a network's trained tensors, in a copy that shares the frozen ones.

    The first update copies the tensors; each later one keeps `decay` of the average. Integer buffers are copied.
    `torch.optim.swa_utils.AveragedModel`, and Lightning's `EMAWeightAveraging` that wraps it, copy frozen tensors too:
    a second foundation model in memory, averaged at each step. They also average either no buffers, or all of them,
    counters of batch norms included.
    """

    def __init__(self, network: Network, decay: float) -> None:
        trained = trained_state(network)
        tensors = chain(network.named_parameters(), network.named_buffers())
        shared = {id(tensor): tensor for name, tensor in tensors if name not in trained}
        self.network = deepcopy(network, shared).eval()
        own = trained_state(self.network)
        self._counters = [(own[name], value) for name, value in trained.items() if not value.is_floating_point()]
        floats = [name for name, value in trained.items() if value.is_floating_point()]
        self._averages, self._trained = [own[name] for name in floats], [trained[name] for name in floats]
        self._decay, self._started = decay, False

    def update(self) -> None:
        """Include the network's present tensors in the average."""
        torch._foreach_lerp_(self._averages, self._trained, 1 - self._decay if self._started else 1.0)
        for own, value in self._counters:
            own.copy_(value)
        self._started = True

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a stored average."""
        load_trained(self.network, state)
        self._started = True


@dataclass(frozen=True)
class TrainingInput:
    """What a training crop goes through on the device.

    `augment` is None without augmentation, or if it runs on the CPU. `optics` are the network's, or draw a blur.
    """

    augment: DeviceAugment | None
    optics: Optics | RandomOptics


class Classifier(pl.LightningModule):
    """Train a network by gradients: AdamW or Muon with a linear warm-up and a cosine to zero.

    `lr_factors` are the trained backbone parameters' factors of the learning rate; the head's is 1. Vectors (norms,
    biases) have no weight decay. What is validated and kept is an exponential moving average of the weights (EMA). A
    checkpoint stores the trained tensors, not the frozen ones. On several devices the loss and the scores are those of
    the whole batch, also if the processes' shares of it differ in size. `class_counts` are those of the training cells.
    `max_updates` ends the training within a round; None does not.
    """

    average: EMA

    def __init__(
        self,
        network: Network,
        class_counts: Sequence[int],
        fine_tuning: FineTuning,
        lr_factors: Mapping[str, float],
        inputs: TrainingInput,
        max_updates: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.fine_tuning = fine_tuning
        self.lr_factors = {f"backbone.{name}": factor for name, factor in lr_factors.items()}
        self.augment = inputs.augment
        self.optics = inputs.optics
        self.loss = ObjectiveLoss(fine_tuning, class_counts)
        self.n_classes = n_classes = len(class_counts)
        counted: Any = {"ignore_index": IGNORE_INDEX, "validate_args": False}  # a check makes a GPU wait at each batch
        self.val_f1 = MulticlassF1Score(n_classes, average="macro", **counted)
        self.val_accuracy = MulticlassAccuracy(n_classes, average="micro", **counted)
        self.max_updates = max_updates
        self.strict_loading = False  # on_load_checkpoint loads the tensors
        self._checkpoint: dict[str, Any] | None = None

    @property
    def _processes(self) -> int:
        return self._trainer.world_size if self._trainer is not None else 1

    @property
    def planned_updates(self) -> int:
        """Updates of the whole training, whichever ends it: the rounds or `max_updates`."""
        of_rounds = int(self.trainer.estimated_stepping_batches)
        return max(1, of_rounds if self.max_updates is None else min(of_rounds, self.max_updates))

    @property
    def _planned_batches(self) -> int:
        trainer = self.trainer
        of_rounds = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        return min(of_rounds, self.planned_updates * trainer.accumulate_grad_batches)

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        """Logits of stored crops."""
        return self.network(crops)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        crops, labels, _ = batch
        optics = self.optics
        pixels = to_pixels(optics.trim(crops)) if self.augment is None else self.augment(crops, optics.needed_px)
        x, targets = self._mix(optics(pixels), labels)
        one_cell = len(x) == 1 and self._processes == 1
        with running_statistics_of_single_values(self.network) if one_cell else nullcontext():
            logits = self.network.classify_input(x)
        loss, n = self._loss(logits, targets, self.fine_tuning.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=n, prog_bar=True, sync_dist=True)
        right = (logits.detach().argmax(dim=1) == labels).sum()  # a GPU waits for torchmetrics' accuracy
        accuracy = right * self._processes / n  # whose mean over the processes is that of the whole batch
        self.log("train_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
        return loss

    def on_fit_start(self) -> None:
        if self._processes > 1:
            from cellpatch.models.sync_batchnorm import sync_batchnorm  # imports timm, which takes a second

            sync_batchnorm(self.network)

    def on_train_start(self) -> None:
        over = self.fine_tuning.average_over
        steps = self._planned_batches
        self.average = EMA(self.network, exp(-over / steps) if over else 0.0)
        if self._processes > 1:  # each process draws its own augmentation
            torch.manual_seed(hash((torch.initial_seed(), self.trainer.global_rank, self.trainer.current_epoch)))
        if self._checkpoint is not None:
            self.average.load(self._checkpoint["average"])
            self._checkpoint = None

    def on_train_batch_end(self, *_: Any) -> None:
        self.average.update()

    def validation_step(self, batch: Batch, index: int) -> None:
        crops, labels, _ = batch
        logits = self.average.network(crops)
        adjusted = self.loss.adjust(logits)
        self.val_f1(adjusted, labels)
        self.val_accuracy(adjusted, labels)
        loss, n = self._loss(logits, labels, 0.0)
        self.log("val_loss", loss, batch_size=n, sync_dist=True)
        self.log("val_macro_f1", self.val_f1, batch_size=n, prog_bar=True)
        self.log("val_accuracy", self.val_accuracy, batch_size=n)

    def _mix(self, x: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b 3 h w"], Labels]:
        settings = self.fine_tuning
        if not settings.mixup and not settings.cutmix:
            return x, labels
        return mix_crops(x, shares_of(labels, self.n_classes), settings.mixup, settings.cutmix)

    def _loss(
        self, logits: Float[Tensor, "b classes"], labels: Labels, smoothing: float
    ) -> tuple[Float[Tensor, ""], int]:
        """Mean over the whole batch's cells, weighted by class, and how many they are.

        Several processes average their losses and gradients, but their shares of a batch may differ in size: each
        returns a value whose mean over the processes is the loss of the batch; 0 for a share without cells.
        """
        if self._processes == 1:
            return self.loss(logits, labels, smoothing), len(labels)
        counted = shares_of(labels, self.n_classes).sum()
        of_process = torch.stack([self.loss.weight(labels), counted])
        of_all: Tensor = self.all_gather(of_process)  # type: ignore[assignment]
        mean_weight = of_all[:, 0].mean()
        return self.loss(logits, labels, smoothing, "sum") / mean_weight, round(float(of_all[:, 1].sum()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {}
        checkpoint["network"] = trained_state(self.network)
        checkpoint["average"] = trained_state(self.average.network)
        checkpoint["random"] = _random_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        load_trained(self.network, checkpoint["network"])
        self._checkpoint = checkpoint
        if self._processes == 1:  # here, because the data loader that Lightning makes next draws a number too
            _set_random_state(checkpoint["random"], self.trainer.strategy.root_device)

    def configure_optimizers(self) -> Any:
        settings = self.fine_tuning
        optimizer = make_optimizer(
            self.network, settings.optimizer, settings.lr, settings.weight_decay, self.lr_factors, settings.adamw_rate
        )
        schedule = cosine_schedule(optimizer, self.planned_updates, settings.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _random_state(device: torch.device) -> list[Tensor]:
    """States of torch's generators; training draws from no other."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _set_random_state(state: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0].cpu())
    if device.type == "cuda" and len(state) > 1:  # the interrupted training may have run on a CPU
        torch.cuda.set_rng_state(state[1].cpu(), device)
