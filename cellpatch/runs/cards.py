"""Measurements that are added to a finished run's record: what a cell costs, what features predict."""

from dataclasses import asdict, dataclass, field
from typing import Annotated

from pydantic import Field

from cellpatch.runtime.json_types import Json


@dataclass(frozen=True)
class Hardware:
    """Where something was computed: processor, its cores, torch's threads, the GPU if there is one."""

    processor: str
    cores: int | None
    threads: int
    gpu: str | None

    def __str__(self) -> str:
        return f"{self.gpu or self.processor}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True)
class BatchTiming:
    """Milliseconds per cell at one batch size: median, quartiles and parts; `peak_mib` is memory until then."""

    batch: int
    ms: float
    low: float
    high: float
    peak_mib: float
    repeats: int | None = None
    transfer_ms: float | None = None
    optics_ms: float | None = None
    forward_ms: float | None = None


@dataclass(frozen=True)
class LatencyCard:
    """What one cell costs on one machine: timings of each engine by rising batch, arithmetic, parameters.

    `not_timed` states why an engine was not. `onnx_apart` is the largest difference between probabilities of ONNX
    Runtime and torch, on random crops.
    """

    hardware: Hardware
    device: str
    clock_mhz: float | None
    parameters: int
    mmac: float
    engines: dict[str, list[BatchTiming]]
    seconds: float | None = None
    not_timed: Annotated[dict[str, str], Field(alias="lacking")] = field(default_factory=dict)
    onnx_apart: float | None = None

    def as_json(self) -> Json:
        """As a record states it: what was not measured is left out."""
        optional = {"repeats", "transfer_ms", "optics_ms", "forward_ms", "seconds", "onnx_apart"}
        stored = asdict(self, dict_factory=lambda items: {k: v for k, v in items if v is not None or k not in optional})
        return {"lacking" if key == "not_timed" else key: value for key, value in stored.items()}


@dataclass(frozen=True)
class FeatureMap:
    """Features of some test cells on their two directions of largest variance: coordinates of cells by class.

    `explained` are the shares of variance of the two directions.
    """

    points: dict[str, list[tuple[float, float]]]
    explained: tuple[float, float]


@dataclass(frozen=True)
class FeatureCard:
    """How well features predict the specimen (batch effect), and how far classes lie apart; of `n` test cells.

    Accuracies and shares are in [0, 1]; `..._chance` is what a guess reaches. `map` is None in runs before 0.4.0.
    """

    specimen_accuracy: float
    specimen_chance: float
    separability: dict[str, float]
    separability_chance: float
    n: int
    map: FeatureMap | None = None
