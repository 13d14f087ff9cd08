"""The schema of the top-level keys, and the checks that come before any work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf

from cellpatch.config.conf import CONF as CONF
from cellpatch.config.mistakes import HYDRA_ERRORS, explain

RENAMED = {  # keys of earlier versions
    "model.backbone.published_px": "model.backbone.pretrained_img_size",
    "model.backbone.dropped": "model.backbone.removed_layers",
    "adapt.strengths": "adapt.l2_grid",
    "adapt.views": "adapt.augmented_copies",
    "logger.project": "logger.wandb.project",
    "logger.offline": "logger.wandb.offline",
    "adapt.class_weights": "adapt.balance (balanced is adapt.balance=class_weights)",
}

_LONGEST = 200  # bytes of a key: Hydra looks for a file of this name
_SEVERAL = ("logger",)  # groups of which several files may be chosen


@dataclass
class Config:
    """Top-level keys; an unknown one is an error, also with Hydra's `+`."""

    model: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    adapt: dict[str, Any] = MISSING
    augment: dict[str, Any] = MISSING
    optics: dict[str, Any] = MISSING
    flag_limit: int = MISSING
    seed: int = MISSING
    runs_dir: str = MISSING
    weights_dir: str | None = None
    retry_failed: bool = MISSING
    dry_run: bool = MISSING
    trainer: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    experiment: str | None = None


def register() -> None:
    """Make the schema known to Hydra under the name that conf/config.yaml uses."""
    ConfigStore.instance().store(name="schema", node=Config)


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ValueError for a key that has another name now or is too long, and for a list that a group does not take.

    Hydra would suggest to append the old key, fail at a long one and at a number, and take the last of several names.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.lstrip("+~")
        if len(key.encode()) > _LONGEST:
            raise ValueError(f"unknown key {key[:40]}..., of {len(key)} letters")
        if key in RENAMED:
            raise ValueError(f"{key} has another name now: {RENAMED[key]}")
        if value.startswith("[") and (CONF / key).is_dir():
            _check_names(key, override)


def _check_names(group: str, override: str) -> None:
    """Raise ValueError for a list of names that are no files of a group, or of a group that takes one name."""
    try:
        value = OverridesParser.create().parse_override(override).value()
    except HydraException:  # Hydra explains it itself
        return
    values: list[Any] = value.list if isinstance(value, ChoiceSweep) else [value]
    if group not in _SEVERAL:
        raise ValueError(f"{group} takes one name, but got {override}; a grid takes several: -m {group}=NAME,NAME")
    allowed = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    for names in values:
        wrong = [name for name in names if name not in allowed] if isinstance(names, list) else []
        if wrong or names == []:
            raise ValueError(f"{group} must be of {', '.join(allowed)}, but got {wrong or 'an empty list'}")


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The config that `cellpatch train` would get with these overrides; raises ValueError for what Hydra refuses."""
    check_overrides(overrides)
    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", list(overrides))
    except (*HYDRA_ERRORS, ValueError) as error:
        raise ValueError(explain(error, overrides)) from error


def models() -> dict[str, bool]:
    """The models of conf/model in the order of their names, and whether each has its features before any training."""
    files = sorted((CONF / "model").glob("*.yaml"))
    return {file.stem: "weights" in OmegaConf.load(file) for file in files}
