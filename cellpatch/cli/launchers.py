"""What runs the jobs of a grid, or of several predictions: Hydra's launchers, each an extra of the package."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cellpatch.config.schema import CONF

BASIC = "basic"  # Hydra's own: one job after the other, in this process
LAUNCHERS = [BASIC, *sorted(file.stem for file in (CONF / "hydra" / "launcher").glob("*.yaml"))]


def check_launchers(overrides: Sequence[str]) -> None:
    """Raise ValueError for a launcher of conf/ that is not installed; Hydra says no more than "Unknown plugin"."""
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "hydra/launcher" and name.strip("'\"") in LAUNCHERS:  # Hydra knows of others
            check_installed(name.strip("'\""))


def check_installed(launcher: str) -> None:
    """Raise ValueError if a launcher's package is not installed."""
    if launcher == BASIC:
        return
    package = ".".join(str(_settings(launcher)["_target_"]).split(".")[:2])
    if find_spec(package) is None:
        install = re.search(r"pip install '[^']+'", _file(launcher).read_text(encoding="utf-8"))
        raise ValueError(f"the launcher {launcher} is not installed: {install[0] if install else package}")


def check_launcher_settings(launcher: str, settings: Sequence[str]) -> None:
    """Raise ValueError unless each of `settings`, as `prepare_overrides` gives it, is one value of a launcher's key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # Hydra imports it anyway, --help does not
    from hydra.errors import HydraException

    defaults = (
        {} if launcher == BASIC else {str(key): value for key, value in _settings(launcher).items_ex(resolve=False)}
    )
    known = [key for key in defaults if key != "_target_"]
    for setting in settings:
        key = setting.partition("=")[0]
        try:
            override = OverridesParser.create().parse_override(setting)
            fits = not override.is_sweep_override()
        except HydraException:
            fits = False
        if fits and type(defaults.get(key)) is int:
            fits = type(override.value()) is int
        if "=" not in setting or key.split(".")[0] not in known or not fits:
            several = "" if "," not in setting else "; a value with a comma needs quotes inside quotes: 'KEY=\"a,b\"'"
            raise ValueError(f"--set must be KEY=VALUE, of {launcher}'s keys {known}, but got {setting!r}{several}")


def _settings(launcher: str) -> DictConfig:
    settings = OmegaConf.load(_file(launcher))
    assert isinstance(settings, DictConfig)
    return settings


def _file(launcher: str) -> Path:
    return CONF / "hydra" / "launcher" / f"{launcher}.yaml"
