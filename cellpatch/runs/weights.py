"""A run's trained tensors on disk."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cellpatch.runs.stored_run import WEIGHTS, StoredRun


def read_weights(run: StoredRun) -> dict[str, Tensor]:
    """The trained tensors of backbone and head; raises ValueError if the file is missing, changed or unreadable."""
    run.check_files([WEIGHTS])
    try:
        return load_file(run.folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{run.folder / WEIGHTS} is not a readable safetensors file ({error})") from error


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write the trained tensors into a run's folder: what is frozen was published, optics are computed."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    (folder / WEIGHTS).write_bytes(save(tensors))  # not save_file: on a full disk it raises no OSError
