"""What fitting a model leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellpatch.config.instantiate import build
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.models.network import Network, build_optics
from cellpatch.optics.conditions import Condition
from cellpatch.optics.operator import to_pixels
from cellpatch.runtime.device import inference_batch_size, inference_mode, resolve_device
from cellpatch.runtime.progress import batch_starts

# Probabilities [n, classes] of the given cells under each condition.
Predict = Callable[[Sequence[Condition], np.ndarray], dict[Condition, np.ndarray]]


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves: how to predict cells, the trained tensors, facts for the record, seconds."""

    predict: Predict
    state: dict[str, Tensor]
    facts: dict[str, Any]
    seconds: dict[str, float]


def make_predict_fn(plain: dict[str, Any], study: CellDataset, network: Network) -> Predict:
    """Predict in one pass over the cells and in 32 bits: a batch of crops is read once for all conditions."""
    store = study.store
    loading: Loading = build(plain["data"]["loading"])
    device = resolve_device(plain["trainer"])
    n = loading.embedding_batch or inference_batch_size(plain["model"]["backbone"]["input_px"], device)

    @inference_mode()
    def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
        network.to(device).eval()
        optics = [build_optics(plain, store.geometry, condition).to(device) for condition in conditions]
        found: list[list[np.ndarray]] = [[] for _ in conditions]
        for start in batch_starts(len(cells), n, "evaluating"):
            crops = torch.from_numpy(store.crops(cells[start : start + n]))
            pixels = to_pixels(crops.to(device))
            for parts, seen in zip(found, optics, strict=True):
                parts.append(network.head(network.backbone(seen(pixels))).softmax(dim=1).cpu().numpy())
        return dict(zip(conditions, map(np.concatenate, found), strict=True))

    return predict
