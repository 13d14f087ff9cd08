"""What fitting a model leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellpatch.conditions import Condition
from cellpatch.config import build
from cellpatch.data.loading import Loading
from cellpatch.memory import cells_at_a_time
from cellpatch.network import Network, device_of, inferring, optics_of
from cellpatch.optics import to_pixels
from cellpatch.progress import batches
from cellpatch.study import Study

# Probabilities [n, classes] of the given cells under each condition.
Predict = Callable[[Sequence[Condition], np.ndarray], dict[Condition, np.ndarray]]


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves: how to predict cells, the trained tensors, facts for the record, seconds."""

    predict: Predict
    state: dict[str, Tensor]
    facts: dict[str, Any]
    seconds: dict[str, float]


def predictor(plain: dict[str, Any], study: Study, network: Network) -> Predict:
    """Predict in one pass over the cells and in 32 bits: a batch of crops is read once for all conditions."""
    store = study.store
    loading: Loading = build(plain["data"]["loading"])
    device = device_of(plain["trainer"])
    n = loading.embedding_batch or cells_at_a_time(plain["model"]["backbone"]["input_px"], device)

    @inferring()
    def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
        network.to(device).eval()
        optics = [optics_of(plain, store.geometry, condition).to(device) for condition in conditions]
        found: list[list[np.ndarray]] = [[] for _ in conditions]
        for start in batches(len(cells), n, "evaluating"):
            crops = torch.from_numpy(store.crops(cells[start : start + n]))
            pixels = to_pixels(crops.to(device))
            for parts, seen in zip(found, optics, strict=True):
                parts.append(network.head(network.backbone(seen(pixels))).softmax(dim=1).cpu().numpy())
        return dict(zip(conditions, map(np.concatenate, found), strict=True))

    return predict
