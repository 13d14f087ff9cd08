"""Pretrain a backbone without labels, on the device."""

import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import JsonValue
from torch import Tensor, nn

from cellpatch.data.augment import DeviceAugment
from cellpatch.data.batch_indices import BatchIndices
from cellpatch.data.datamodule import SplitPart
from cellpatch.data.store.reader import CellStore
from cellpatch.models.backbone import Backbone, map_shape
from cellpatch.models.single_values import running_statistics_of_single_values
from cellpatch.models.spec import ModelSpec
from cellpatch.optics.conditions import CLEAN
from cellpatch.optics.operator import OpticalPath, to_pixels
from cellpatch.pretraining.code import PRETRAINING_CODE
from cellpatch.pretraining.facts import PretrainingCost
from cellpatch.pretraining.methods import Distillation, MaskedImages
from cellpatch.pretraining.objectives import FeatureRegression, MaskedImageModel
from cellpatch.probing.feature_key import crops_fingerprint
from cellpatch.probing.fit import CachedFeatures
from cellpatch.probing.logistic import standardise
from cellpatch.training.fit import attention_for
from cellpatch.training.optimizers import cosine_schedule, make_optimizer
from cellpatch.training.trainer_settings import TrainerSettings

log = logging.getLogger(__name__)
_MOST_NORM = 1.0  # of a gradient, as conf/trainer/default.yaml clips it
_LOG_LINES = 30  # of a pretraining
_STRETCHES = 10  # whose mean losses are kept
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, kw_only=True)
class PretrainingFit:
    """A pretraining: of which backbone, by which method, on which cells of a store.

    Crops are clean; `augment` turns, shifts and stains them. They stay in memory if they take at most `resident_gib`.
    `teacher` gives the features that a distillation regresses; None for other methods.
    """

    model: ModelSpec
    method: MaskedImages | Distillation
    store: CellStore
    cells: Int[np.ndarray, " n"]
    path: OpticalPath
    augment: DeviceAugment | None
    trainer: TrainerSettings
    resident_gib: float
    seed: int
    teacher: CachedFeatures | None = None

    def key(self) -> dict[str, JsonValue]:
        """Everything that decides the pretrained weights, as plain JSON: no label, no flag_limit."""
        augment, teacher = self.augment, self.teacher
        return {
            "code": PRETRAINING_CODE,
            "method": self.method.method,
            "settings": self.method.pretraining_settings(),
            "backbone": self.model.key,
            "crops": crops_fingerprint(self.store, self.cells),
            "optics": [self.path.via_px, self.path.resize],
            "augment": None if augment is None else [augment.stain_gain, augment.stain_offset, augment.shift_px],
            "precision": self.trainer.resolved_precision,
            "seed": self.seed,
            "teacher": None if teacher is None else [teacher.model.key, teacher.weights, teacher.cache.dtype],
        }

    def run(self) -> tuple[dict[str, Tensor], PretrainingCost]:
        """The backbone's tensors after pretraining, and what it took; raises ValueError if it diverges.

        It starts from the random values that a training from scratch of the same seed starts from.
        """
        started = time.perf_counter()
        targets = self._targets()
        embedded = time.perf_counter()
        device = self.trainer.device
        torch.manual_seed(self.seed)
        backbone = self.model.open(None)
        network = self._network(backbone, targets).to(memory_format=torch.channels_last).to(device).train()
        with attention_for(self.trainer):
            losses = torch.stack(list(self._optimise(network)))
        if not losses.isfinite().all():
            raise ValueError("pretraining diverged, its loss is not finite: lower adapt.pretrain_lr")
        cost = PretrainingCost(
            updates=len(losses),
            losses=[float(part.mean()) for part in losses.tensor_split(min(_STRETCHES, len(losses)))],
            seconds=time.perf_counter() - embedded,
            embed_seconds=0.0 if targets is None else embedded - started,
            device=device.type,
            threads=torch.get_num_threads(),
        )
        return {name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()}, cost

    def _targets(self) -> Float[Tensor, "n d"] | None:
        """The teacher's features of the cells, standardised over them."""
        if self.teacher is None:
            return None
        return standardise(torch.from_numpy(self.teacher(CLEAN, self.cells)).float())[0]

    def _network(self, backbone: Backbone, targets: Float[Tensor, "n d"] | None) -> nn.Module:
        if isinstance(self.method, MaskedImages):
            shape = map_shape(self.model.on_meta())
            return MaskedImageModel(backbone, shape, self.method.mask_share, self.method.mask_px)
        assert targets is not None
        return FeatureRegression(backbone, targets)

    def _optimise(self, network: nn.Module) -> Iterator[Tensor]:
        """The loss of each update: AdamW with a linear warm-up and a cosine to zero, as in training."""
        method, device, precision = self.method, self.trainer.device, self.trainer.resolved_precision
        updates = method.pretrain_updates
        optimizer = make_optimizer(network, "adamw", method.pretrain_lr, method.pretrain_weight_decay)
        schedule = cosine_schedule(optimizer, updates, method.pretrain_warmup)
        scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
        for update, (x, cells) in enumerate(self._batches(), start=1):
            single = running_statistics_of_single_values(network) if len(x) == 1 else nullcontext()
            with single, torch.autocast(device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
                loss = network(x, cells)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), _MOST_NORM)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            if update % -(-updates // _LOG_LINES) == 0 or update == updates:
                log.info("pretraining, update %d/%d  loss %.4f", update, updates, loss.item())
            yield loss.detach()

    def _batches(self) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
        """Inputs on the device, and their positions among the cells."""
        device = self.trainer.device
        optics = self.path.under().to(device)
        n, size = len(self.cells), self.method.pretrain_batch_size
        fits = n * self.store.geometry.side_px**2 * 3 <= self.resident_gib * 2**30
        crops_of = SplitPart(self.store, self.cells, np.zeros(n, np.int64), torch.device("cpu") if fits else None)
        for positions in BatchIndices(n, size, self.seed, round_batches=self.method.pretrain_updates):
            crops, _, cells = crops_of[positions]
            crops = crops.to(device)
            augment = self.augment
            pixels = to_pixels(optics.trim(crops)) if augment is None else augment(crops, optics.needed_px)
            yield optics(pixels), cells.to(device)
