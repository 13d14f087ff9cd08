"""Fit a probe to a study: on kept features of a frozen backbone."""

import hashlib
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellpatch.config.instantiate import build
from cellpatch.data.dataset import CellDataset
from cellpatch.data.loading import Loading
from cellpatch.models.backbone import Backbone
from cellpatch.models.network import Network, build_optics, open_backbone
from cellpatch.models.predictor import FitResult, Predict
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.probing.feature_cache import Cache
from cellpatch.probing.probes import Probe
from cellpatch.runtime.cache import Last
from cellpatch.runtime.device import inference_batch_size, resolve_device


def fit_probe(
    plain: dict[str, Any], study: CellDataset, probe: Probe, fingerprint: str | None, logger: Any
) -> FitResult:
    """Embed every cell of the store unless it is done, and fit the probe to the study's cells."""
    started = time.perf_counter()
    device = resolve_device(plain["trainer"])
    features = Features(plain, study, fingerprint)

    def part(cells: np.ndarray, views: Sequence[int | None]) -> tuple[Tensor, Tensor]:
        found = torch.from_numpy(np.concatenate([features(CLEAN, cells, view) for view in views])).float()
        return found, torch.from_numpy(np.tile(study.labels[cells], len(views)))

    train, validation = part(study.split.train, [None, *range(probe.views)]), part(study.split.validation, [None])
    embedded = time.perf_counter()
    head, facts, seconds = _fit_once(probe, [*train, *validation], device, len(study.classes))
    if logger is not None:
        logger.log_metrics({"val_macro_f1": facts["val_macro_f1"]})
    return FitResult(
        features.predictor(head),
        {f"head.{name}": tensor for name, tensor in head.state_dict().items()},
        {"best_epoch": None, "epochs": None, "val_macro_f1": facts["val_macro_f1"], "probe": facts},
        {"embed": embedded - started, "train": seconds},
    )


def _fit_once(
    probe: Probe, cells: list[Tensor], device: torch.device, n_classes: int
) -> tuple[nn.Module, dict[str, Any], float]:
    """The head, what was chosen for it, and the seconds that this took, which a fit of the very same cells did.

    Above its largest class a flag_limit takes all cells, whatever the seed.
    """
    digest = hashlib.sha256(f"{probe} {device} {n_classes}".encode())
    for tensor in cells:
        digest.update(np.ascontiguousarray(tensor.numpy()).data)

    def fit() -> tuple[nn.Module, dict[str, Any], float]:
        started = time.perf_counter()
        x, labels, others, others_labels = (tensor.to(device) for tensor in cells)
        head, facts = probe.fit((x, labels), (others, others_labels), n_classes)
        return head, facts, time.perf_counter() - started

    return deepcopy(_fits.get(digest.hexdigest(), fit))


_fits = Last[tuple[nn.Module, dict[str, Any], float]]()


class Features:
    """Kept features of a study: of every cell as it is, of the cells asked for alone under blur."""

    def __init__(self, plain: dict[str, Any], study: CellDataset, fingerprint: str | None) -> None:
        loading: Loading = build(plain["data"]["loading"])
        self.plain = plain
        self.study = study
        self.fingerprint = fingerprint
        self.device = resolve_device(plain["trainer"])
        n = loading.embedding_batch or inference_batch_size(plain["model"]["backbone"]["input_px"], self.device)
        self.cache = Cache(
            Path(loading.embeddings_dir), loading.embeddings_gib, n, self.device, loading.embedding_dtype
        )

    @cached_property
    def backbone(self) -> Backbone:
        """Opened when features are lacking, once for all conditions."""
        return open_backbone(self.plain["model"], self.fingerprint)

    def __call__(self, condition: Condition, cells: np.ndarray, view: int | None = None) -> np.ndarray:
        model, store = self.plain["model"], self.study.store

        def network() -> Network:
            network = Network(self.backbone, build_optics(self.plain, store.geometry, condition), nn.Identity())
            return network.to(memory_format=torch.channels_last)

        content = {"weights": self.fingerprint, "backbone": model["backbone"], "condition": asdict(condition)}
        content |= {key: self.plain["optics"][key] for key in ("via_px", "resize")}
        asked = np.arange(len(store)) if condition == CLEAN else cells
        augmented = None if view is None else (build(self.plain["augment"]), view)
        name = f"{model['name']}-{self.plain['data']['name']}"
        found = self.cache.features(network, store, name, content, asked, view=augmented)
        return found[cells] if condition == CLEAN else np.asarray(found)

    def predictor(self, head: nn.Module) -> Predict:
        @torch.no_grad()
        def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
            head.to(self.device).eval()
            found = {}
            for condition in conditions:
                parts = torch.from_numpy(np.array(self(condition, cells))).float().to(self.device).split(4096)
                found[condition] = torch.cat([head(part).softmax(dim=1) for part in parts]).cpu().numpy()
            return found

        return predict
