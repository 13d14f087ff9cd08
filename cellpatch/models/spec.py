"""What a model is before it is built: its name, its architecture, its published weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from cellpatch.models.backbone import Backbone, PretrainableBackbone, check_size
from cellpatch.models.weights import Weights, fingerprint
from cellpatch.runtime.errors import UnavailableError


@dataclass(frozen=True)
class ModelSpec:
    """A model of conf/model: the class of its backbone with arguments; `weights` are published ones, or None.

    `key` is equal for equal classes and arguments.
    """

    name: str = field(compare=False)
    input_px: int
    backbone_class: type[Backbone] = field(compare=False)
    arguments: Mapping[str, Any] = field(compare=False)
    weights: Weights | None
    key: str

    @property
    def pretrained(self) -> bool:
        return self.weights is not None

    @property
    def has_features(self) -> bool:
        """Whether its features mean something before any training."""
        return self.pretrained or self.backbone_class.fixed

    def create(self) -> Backbone:
        """The backbone with random values."""
        return self.backbone_class(**self.arguments)

    def on_meta(self) -> Backbone:
        """The backbone without memory: shapes alone; raises ValueError for one whose shapes are beyond torch."""
        try:
            with torch.device("meta"):
                return self.create()
        except (RuntimeError, OverflowError) as error:
            raise ValueError(f"model.backbone cannot be built ({str(error).partition(chr(10))[0]})") from error

    def open(self, expected: str | None) -> Backbone:
        """Build the backbone with its published weights, if it has any.

        Raises ValueError if these are not the weights of the fingerprint `expected`: a file may be replaced while a run
        waits. Raises it too for a network that does not fit the machine's memory.
        """
        _check_size(self)
        backbone = self.create()
        loaded = None
        if self.weights is not None:
            assert isinstance(backbone, PretrainableBackbone)
            loaded = self.weights.load(backbone)
        if loaded != expected:
            raise ValueError(f"the published weights of {self.name} are now {loaded}, not {expected} as before")
        return backbone

    def weights_fingerprint(self) -> str | None:
        """Fingerprint of the published weights, None without any; raises ValueError if they are absent or do not fit.

        No network is built in memory for it.
        """
        if self.weights is None:
            return None
        try:
            stat = self.weights.locate().stat()
        except UnavailableError as error:
            hint = f"weights_dir=DIR finds it in that folder, as {self.name}.safetensors or with another suffix"
            raise UnavailableError(f"{error}. {hint}") from error
        return _fingerprint(self, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)  # building it takes a moment, and every job of a grid asks
def _check_size(model: ModelSpec) -> None:
    check_size(model.on_meta())


@lru_cache(maxsize=64)  # reading the weights takes seconds, and every job of a grid asks
def _fingerprint(model: ModelSpec, size: int, modified_ns: int) -> str:
    assert model.weights is not None
    backbone = model.on_meta()
    assert isinstance(backbone, PretrainableBackbone)
    return fingerprint(model.weights.read(backbone))
