"""Fit a probe to a dataset: on cached features of a frozen backbone."""

import hashlib
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from cellpatch.data.augment import DeviceAugment
from cellpatch.data.dataset import CellDataset
from cellpatch.models.backbone import Backbone
from cellpatch.models.network import Network, assemble_network
from cellpatch.models.predictor import FitFacts, FitResult, Predict
from cellpatch.models.spec import ModelSpec
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.optics.operator import OpticalPath
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.feature_key import FeatureRequest, View
from cellpatch.probing.probes import FittedProbe, Probe
from cellpatch.runtime.cache import LastResult


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a dataset's cells: of every cell of the store on clean crops, of the asked cells alone under blur.

    `weights` is the fingerprint of the backbone's published weights, `name` what people call the cells.
    """

    model: ModelSpec
    weights: str | None
    dataset: CellDataset
    path: OpticalPath
    cache: FeatureCache
    name: str

    @cached_property
    def _network(self) -> "_FrozenNetwork":
        return _FrozenNetwork(self.model, self.weights, self.path)

    def __call__(self, condition: Condition, cells: np.ndarray, view: View | None = None) -> np.ndarray:
        """Features [n, d] of cells of the store, as they are or as an augmented copy."""
        store = self.dataset.store
        request = FeatureRequest(
            store=store,
            cells=np.arange(len(store)) if condition == CLEAN else cells,
            name=f"{self.model.name}-{self.name}",
            content={
                "backbone": self.model.key,
                "weights": self.weights,
                "via_px": self.path.via_px,
                "resize": self.path.resize,
                "condition": asdict(condition),
                "blur": asdict(condition.blur),
            },
            view=view,
        )
        features = self.cache.features(request, partial(self._network.under, condition))
        return features[cells] if condition == CLEAN else np.asarray(features)

    def make_predict_fn(self, head: nn.Module) -> Predict:
        """Predict cells by a head on their features."""
        device = self.cache.device

        @torch.no_grad()
        def predict(conditions: Sequence[Condition], cells: np.ndarray) -> dict[Condition, np.ndarray]:
            head.to(device).eval()
            probabilities = {}
            for condition in conditions:
                parts = torch.from_numpy(np.array(self(condition, cells))).float().to(device).split(4096)
                probabilities[condition] = torch.cat([head(part).softmax(dim=1) for part in parts]).cpu().numpy()
            return probabilities

        return predict


@dataclass(frozen=True)
class _FrozenNetwork:
    """A backbone that is opened when features are missing, once for all conditions, and its optics."""

    model: ModelSpec
    weights: str | None
    path: OpticalPath

    @cached_property
    def _backbone(self) -> Backbone:
        return self.model.open(self.weights)

    def __getstate__(self) -> dict[str, object]:
        """Without the backbone: a process that shares a pass opens its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_backbone"}

    def under(self, condition: Condition) -> Network:
        """The network up to its features."""
        return assemble_network(self._backbone, self.path.under(condition), nn.Identity())


@dataclass(frozen=True)
class ProbeFit:
    """The fit of a probe: on which features, with which augmentation of training cells."""

    probe: Probe
    features: CachedFeatures
    augment: DeviceAugment | None

    def run(self) -> FitResult:
        """Embed every cell of the store unless its features are cached, and fit the probe to the training cells."""
        started = time.perf_counter()
        dataset, augment = self.features.dataset, self.augment

        def part(cells: np.ndarray, views: Sequence[View | None]) -> tuple[Tensor, Tensor]:
            features = np.concatenate([self.features(CLEAN, cells, view) for view in views])
            return torch.from_numpy(features).float(), torch.from_numpy(np.tile(dataset.labels[cells], len(views)))

        copies = [] if augment is None else [View(augment, number) for number in range(self.probe.augmented_copies)]
        train = part(dataset.split.train, [None, *copies])
        validation = part(dataset.split.validation, [None])
        embedded = time.perf_counter()
        device = self.features.cache.device
        fitted, seconds = _fit_once(self.probe, [*train, *validation], device, len(dataset.classes))
        counts = np.bincount(dataset.labels[dataset.split.train], minlength=len(dataset.classes)).tolist()
        choice, prior = fitted.choice, self.probe.prior(counts)
        return FitResult(
            self.features.make_predict_fn(fitted.head),
            {f"head.{name}": tensor for name, tensor in fitted.head.state_dict().items()},
            FitFacts(val_macro_f1=choice.val_macro_f1, prior=prior, probe=choice.as_json()),
            train_seconds=seconds,
            embed_seconds=embedded - started,
        )


def _fit_once(probe: Probe, cells: list[Tensor], device: torch.device, n_classes: int) -> tuple[FittedProbe, float]:
    """The head and what was chosen for it, and the seconds of the fit, which an earlier fit of equal cells may have
    taken: above its largest class a flag_limit takes all cells, whatever the seed.
    """
    digest = hashlib.sha256(f"{probe} {device} {n_classes}".encode())
    for tensor in cells:
        digest.update(np.ascontiguousarray(tensor.numpy()).data)

    def fit() -> tuple[FittedProbe, float]:
        started = time.perf_counter()
        x, labels, validation_x, validation_labels = (tensor.to(device) for tensor in cells)
        fitted = probe.fit((x, labels), (validation_x, validation_labels), n_classes)
        return fitted, time.perf_counter() - started

    return deepcopy(_last_fit.get(digest.hexdigest(), fit))


# The last fit of this process. Not functools.lru_cache: that would keep the features too, which may be gigabytes.
_last_fit = LastResult[tuple[FittedProbe, float]]()
