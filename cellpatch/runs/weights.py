"""A run's trained tensors on disk."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cellpatch.runs.stored_run import WEIGHTS, StoredRun


def read_weights(run: StoredRun) -> dict[str, Tensor]:
    """The trained tensors of backbone and head.

    Raises ValueError if the file is missing, changed or unreadable, or for values that are not finite.
    """
    run.check_files([WEIGHTS])
    try:
        tensors = load_file(run.folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{run.folder / WEIGHTS} is not a readable safetensors file ({error})") from error
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{run.folder / WEIGHTS} has values that are not finite in {broken[:5]}")
    return tensors


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write the trained tensors into a run's folder: what is frozen was published, optics are computed."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    (folder / WEIGHTS).write_bytes(save(tensors))  # not save_file: on a full disk it raises no OSError
