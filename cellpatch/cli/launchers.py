"""What runs the jobs of a grid, or of several predictions: Hydra's launchers, each an extra of the package."""

from collections.abc import Sequence
from importlib.util import find_spec

from omegaconf import OmegaConf

from cellpatch.config.schema import CONF

BASIC = "basic"  # Hydra's own: one job after the other, in this process
_EXTRAS = {"joblib": "joblib", "submitit_slurm": "slurm", "ray": "ray"}


def check_launchers(overrides: Sequence[str]) -> None:
    """Raise ValueError for a launcher whose package is not installed; Hydra says no more than "Unknown plugin"."""
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "hydra/launcher":
            check_launcher(name)


def check_launcher(name: str) -> None:
    """Raise ValueError unless a launcher is known and installed."""
    if name == BASIC:
        return
    if name not in _EXTRAS:
        raise ValueError(f"the launcher must be one of {[BASIC, *_EXTRAS]}, but got {name!r}")
    target = str(OmegaConf.select(OmegaConf.load(CONF / "hydra" / "launcher" / f"{name}.yaml"), "_target_"))
    package = ".".join(target.split(".")[:2])
    if find_spec(package) is None:
        raise ValueError(f"the launcher {name} is not installed: pip install 'cellpatch[{_EXTRAS[name]}]'")
