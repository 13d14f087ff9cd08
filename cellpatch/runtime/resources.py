"""Where conf/ and experiments/ are: at the top level of a checkout, inside the package where it is installed."""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parents[1]


def resource_dir(name: Literal["conf", "experiments"]) -> Path:
    """The folder of that name."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
