"""What fitting a model leaves, and how its network predicts cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from cellpatch.data.store.reader import CellStore
from cellpatch.metrics.prior import ClassPrior
from cellpatch.metrics.validations import BestValidation
from cellpatch.models.network import Network
from cellpatch.optics.conditions import Condition
from cellpatch.optics.operator import OpticalPath, to_pixels
from cellpatch.runtime.device import inference_mode
from cellpatch.runtime.progress import batch_starts

# Probabilities [n, classes] of cells of a store, by their indices, under each condition.
Predict = Callable[[Sequence[Condition], np.ndarray], dict[Condition, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class FitFacts:
    """What a record states of a fit.

    `updates` and `epochs` (passes through the training cells) are those that were done, `best_update` and `best_epoch`
    when the kept weights were validated. `best_validation` states that the best validation was the first or the last,
    None that it was neither. A probe has none of these; `probe` states what was chosen for it. `prior` is that of the
    probabilities.
    """

    val_macro_f1: float
    precision: str | None = None
    best_epoch: int | None = None
    epochs: float | None = None
    best_update: int | None = None
    updates: int | None = None
    best_validation: BestValidation | None = None
    prior: ClassPrior | None = None
    resumed_at_update: list[int] | None = None
    history: list[dict[str, float]] | None = None
    probe: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True)
class FitResult:
    """How to predict cells, the trained tensors, facts for the record, seconds of the fit and of embedding."""

    predict: Predict
    state: dict[str, Tensor]
    facts: FitFacts
    train_seconds: float
    embed_seconds: float | None = None


def make_predict_fn(
    network: Network, store: CellStore, path: OpticalPath, device: torch.device, batch_size: int
) -> Predict:
    """Predict in one pass over the cells and in 32 bits: a batch of crops is read once for all conditions."""

    @inference_mode()
    def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
        network.to(device).eval()
        optics = [path.under(condition).to(device) for condition in conditions]
        parts: list[list[np.ndarray]] = [[] for _ in conditions]
        for start in batch_starts(len(cells), batch_size, "evaluating"):
            crops = torch.from_numpy(store.crops(cells[start : start + batch_size]))
            pixels = to_pixels(crops.to(device))
            for part, seen in zip(parts, optics, strict=True):
                part.append(network.classify(pixels, seen).softmax(dim=1).cpu().numpy())
        return dict(zip(conditions, map(np.concatenate, parts), strict=True))

    return predict
