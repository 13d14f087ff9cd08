"""Where a run was made: hardware, versions of libraries, commit."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from cellpatch.runs.cards import Hardware
from cellpatch.runs.record import GitState

_LIBRARIES = [
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "kornia",
    "hydra-core",
    "torchmetrics",
    "scikit-learn",
    "numpy",
    "pandas",
]


def hardware() -> Hardware:
    """The machine that this process runs on."""
    import torch  # seconds and half a gigabyte, which commands that only read runs do without

    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return Hardware(
        processor=names[0] if names else platform.processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def versions() -> dict[str, str | None]:
    """Versions of Python and of the libraries that numbers depend on; None for one that is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


@cache  # of what is loaded, and 1 ms each
def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


@cache  # the code that is loaded, whatever is committed while it runs
def git_state() -> GitState | None:
    """The commit of the checkout that holds this code, when first asked; None outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "--no-optional-locks", "-C", str(here), *arguments]  # a kill would leave the index locked
        try:
            done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else GitState(commit, bool(git("status", "--porcelain")))
