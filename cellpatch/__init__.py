"""cellpatch: which model, and how many annotations, for single cells in 40x40 pixels?"""

from typing import TYPE_CHECKING, Any

from cellpatch.runtime.version import __version__

if TYPE_CHECKING:
    from cellpatch.api import Run, load_run, read_runs, train

__all__ = ["Run", "__version__", "load_run", "read_runs", "train"]


def __getattr__(name: str) -> Any:
    """What is public comes from cellpatch.api at its first use: importing cellpatch alone costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from cellpatch import api

    return getattr(api, name)
