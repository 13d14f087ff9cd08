"""The settings of a run as its record states them: plain values, components by their short names."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from cellpatch.metrics.classification import Costs
from cellpatch.optics.conditions import Resize, optics_label
from cellpatch.runs.coordinates import RunCoordinates
from cellpatch.runtime.json_types import Json


@dataclass(frozen=True)
class BackboneSettings:
    input_px: int


@dataclass(frozen=True)
class ModelSettings:
    name: str
    backbone: BackboneSettings


@dataclass(frozen=True)
class LoadingSettings:
    store_dir: str
    embedding_dtype: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True)
class DataSettings:
    name: str
    split: Json
    loading: LoadingSettings
    field_um: float | None = None
    costs: Costs = field(default_factory=lambda: Costs([], 2.0))

    @property
    def held_out_sites(self) -> list[str]:
        """The sites whose cells are the test set; empty for other splits."""
        sites = self.split.get("test_sites")
        return [str(site) for site in sites] if isinstance(sites, list) else []

    @property
    def label(self) -> str:
        """The name of the data, with the sites that are held out: each choice of them is a data set of its own."""
        sites = self.held_out_sites
        return f"{self.name}, site{'s' * (len(sites) > 1)} {', '.join(sites)}" if sites else self.name


@dataclass(frozen=True)
class AdaptSettings:
    name: str
    augmented_copies: int | None = None  # of a probe alone
    teacher: str | None = None  # of a distillation alone

    @property
    def label(self) -> str:
        """The adaptation's name, with its teacher if it has one."""
        return self.name if self.teacher is None else f"{self.name} {self.teacher}"


@dataclass(frozen=True)
class DeviceSettings:
    """Lightning's accelerator, and how many devices of it trained the run."""

    accelerator: str = "auto"
    devices: int | str = 1  # checked as a setting of the trainer


@dataclass(frozen=True)
class OpticsPathSettings:
    via_px: int | None
    resize: Resize
    train: list[float] | None
    unit: Literal["px40", "um"]
    train_kind: list[str]


@dataclass(frozen=True)
class Settings:
    """What readers of a run ask of its settings; `config` holds all of them, as plain JSON values."""

    config: Json
    model: ModelSettings
    data: DataSettings
    adapt: AdaptSettings
    optics: OpticsPathSettings
    flag_limit: int
    seed: int
    trainer: DeviceSettings = field(default_factory=DeviceSettings)
    logger: Json = field(default_factory=dict)

    @property
    def is_probe(self) -> bool:
        """Whether a classifier was fitted to features of a frozen backbone."""
        return self.adapt.augmented_copies is not None

    @cached_property
    def coordinates(self) -> RunCoordinates:
        """The run's place in a grid."""
        optics = self.optics
        return RunCoordinates(
            self.data.label,
            self.data.field_um or 0.0,
            self.model.name,
            self.adapt.label,
            self.model.backbone.input_px,
            optics_label(optics.via_px, optics.resize, optics.train, optics.train_kind, optics.unit),
            self.flag_limit,
            self.seed,
        )


def parse_settings(config: Json, where: str) -> Settings:
    """Check a stored config and give it typed; raises ValueError that names `where`, the key and what came."""
    try:
        return _ADAPTER.validate_python({**config, "config": config})
    except ValidationError as error:
        raise ValueError(f"{where}: config.{first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first problem of a failed validation: key, what is allowed, what came."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}, but got {str(first['input'])[:80]!r}"


_ADAPTER = TypeAdapter(Settings)  # built once: a schema, not state
