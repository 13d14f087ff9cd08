"""The checkpoint of an unfinished training: what it must hold for the training to continue as if nothing happened."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellpatch.runtime.errors import CHECKPOINT_READ_ERRORS

# Lightning takes a checkpoint without some of them, and forgets the best validation or the optimiser's momentum.
_PARTS: Mapping[str, type] = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "network": dict,
    "average": dict,
    "random": list,
    "stopped": bool,
}
_CALLBACKS = ("BestWeights", "EarlyStopping")


def rounds_done(file: Path) -> int:
    """Rounds before a checkpoint, which is written as one ends; raises ValueError for a damaged file."""
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        problem = _problem(stored)
    except CHECKPOINT_READ_ERRORS as error:
        raise cannot_resume(file, error) from error
    if problem:
        raise cannot_resume(file, problem)
    return int(stored["epoch"]) + 1


def cannot_resume(file: Path, why: object) -> ValueError:
    """The error of a checkpoint from which training cannot continue."""
    return ValueError(f"{file} cannot be read, so training cannot resume from it: delete it ({why})")


def _problem(stored: Any) -> str | None:
    if not isinstance(stored, dict):
        return f"it must hold a table of parts, but holds {type(stored).__name__}"
    for name, kind in _PARTS.items():
        value = stored.get(name)
        if type(value) is not kind or (kind in (dict, list) and not value and name != "state_dict"):
            return f"its part {name} is absent or of another kind"
    for name in _CALLBACKS:
        if not any(key.startswith(name) and state for key, state in stored["callbacks"].items()):
            return f"it lacks the state of {name}"
    return None
