"""The settings of conf/logger: which trackers show a run, and where."""

import importlib.util
from dataclasses import dataclass
from typing import TypeAlias, cast

from pydantic import TypeAdapter, ValidationError

from cellpatch.runtime.json_types import Json


@dataclass(frozen=True)
class Wandb:
    """A W&B run; `offline` ones stay on this machine until `wandb sync`.

    Without `entity` it is your default one, without `group` runs are grouped by experiment, else by data. The record,
    predictions, weights and the cells' manifest are logged as an artifact where they take at most `artifacts_mib` MiB
    together; 0 never logs them.
    """

    project: str
    offline: bool
    entity: str | None
    group: str | None
    artifacts_mib: int


@dataclass(frozen=True)
class TensorBoard:
    """An events file in the run's folder tensorboard/; `tensorboard --logdir runs` shows all."""


@dataclass(frozen=True)
class Csv:
    """Files metrics.csv and hparams.yaml in the run's folder csv/."""


@dataclass(frozen=True)
class Mlflow:
    """An MLflow run; without `tracking_uri` in the database runs_dir/.mlflow/mlflow.db (SQLite)."""

    experiment: str
    tracking_uri: str | None


TrackerSettings: TypeAlias = Wandb | TensorBoard | Csv | Mlflow
BY_NAME: dict[str, type] = {"wandb": Wandb, "tensorboard": TensorBoard, "csv": Csv, "mlflow": Mlflow}
_PACKAGES = {TensorBoard: "tensorboard", Mlflow: "mlflow"}  # and the extras that bring them


def name_of(settings: TrackerSettings) -> str:
    """The name that the config has for a tracker."""
    return next(name for name, kind in BY_NAME.items() if isinstance(settings, kind))


def require_packages(trackers: list[TrackerSettings]) -> list[TrackerSettings]:
    """The trackers as they are; raises ValueError for one whose package is not installed."""
    for settings in trackers:
        package = _PACKAGES.get(type(settings))
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"logger={package} needs another package: pip install 'cellpatch[{package}]'")
    return trackers


def is_local(settings: TrackerSettings) -> bool:
    """Whether nothing of it leaves this machine."""
    if isinstance(settings, Wandb):
        return settings.offline
    return not isinstance(settings, Mlflow) or settings.tracking_uri is None


def stored_trackers(logger: Json, where: str) -> list[TrackerSettings]:
    """The trackers that a stored run states; raises ValueError that names `where` and the key.

    Until 0.5.0 a record had one, without its name: W&B.
    """
    nodes = {"wandb": _FORMER | logger} if "component" in logger else logger
    trackers = []
    for name, node in nodes.items():
        if name not in BY_NAME or not isinstance(node, dict):
            raise ValueError(f"{where}: config.logger must be of {', '.join(BY_NAME)}, but got {name}: {node!r}")
        arguments = {key: value for key, value in node.items() if key != "component"}
        try:
            trackers.append(cast(TrackerSettings, _ADAPTERS[name].validate_python(arguments)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"{where}: config.logger.{name}.{first['loc'][0]}: {first['msg']}") from error
    return trackers


_FORMER: Json = {"entity": None, "group": None, "artifacts_mib": 0}
_ADAPTERS: dict[str, TypeAdapter] = {name: TypeAdapter(kind) for name, kind in BY_NAME.items()}
