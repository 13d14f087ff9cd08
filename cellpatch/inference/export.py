"""Export a stored run as one ONNX file: native uint8 crops in, class probabilities out.

Optics, normalisation and softmax are inside. Needs the extra `export` (onnx, onnxscript, onnxruntime). The file is kept
only if ONNX Runtime's probabilities equal those of the run: on its test cells where its store exists, else on
random crops. Its metadata names run, classes, side and scale.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cellpatch.data.dataset import find_store
from cellpatch.data.store.reader import Geometry
from cellpatch.inference.restore import RestoredRun, predict_probabilities, restore
from cellpatch.models.network import Network
from cellpatch.optics.conditions import CLEAN
from cellpatch.runtime.atomic_io import temporary_directory

TOLERANCE = 1e-4  # largest difference of a probability that an export may have
_CELLS = 256  # test cells that are compared
_RANDOM_CROPS = 64
_BATCH = 32


class Deployed(nn.Module):
    """A network that ends in probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        return self.network(crops).softmax(dim=1)


def export(run: Path, file: Path, weights_file: Path | None = None) -> str:
    """Write the file, whole or not at all; reports what it was compared with and how far they differ.

    Tensors of a model above 1.5 GB go into a second file beside it, FILE.data. Raises ValueError for a run that cannot
    be restored, or if a probability differs by more than TOLERANCE.
    """
    if file.suffix != ".onnx":
        raise ValueError(f"the file's name must end in .onnx, but got {file}")
    restored = restore(run, weights_file)
    network, record = restored.network.cpu(), restored.stored.record
    metadata = {
        "run": run.name,
        "cellpatch": record.cellpatch,
        "classes": json.dumps(record.classes),
        "geometry": json.dumps(asdict(restored.geometry)),
    }
    with temporary_directory(file.parent, "export") as folder:
        temporary = folder / file.name  # the second file is found by its name
        save_onnx(network, restored.geometry, temporary, metadata)
        reference = _reference(restored)
        session = open_session(temporary)
        parts = np.array_split(reference.crops, ceil(len(reference.crops) / _BATCH))
        exported = np.concatenate([session.run(None, {"crops": part})[0] for part in parts])
        difference = float(np.abs(exported - reference.probabilities).max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{file}: not written: its probabilities differ from {reference.description} by up to {difference:.2g}"
            )
        for part in sorted(folder.iterdir(), key=lambda part: part == temporary):
            part.replace(file.with_name(part.name))
    return f"compared with {reference.description}: probabilities differ by at most {difference:.1e}"


def save_onnx(network: Network, geometry: Geometry, file: Path, metadata: Mapping[str, str]) -> None:
    """Write `Deployed` of the network, on the CPU; the number of cells is free.

    Raises ValueError if the extra `export` is not installed.
    """
    try:
        import onnxscript  # noqa: F401 (torch needs it, with a message that is less clear)
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'cellpatch[export]'") from error
    example = torch.zeros(2, geometry.side_px, geometry.side_px, 3, dtype=torch.uint8)
    program: Any = torch.onnx.export(
        Deployed(network).eval(),
        (example,),
        dynamo=True,
        dynamic_shapes={"crops": {0: torch.export.Dim("cells")}},
        input_names=["crops"],
        output_names=["probabilities"],
        verbose=False,
    )
    program.model.metadata_props.update(metadata)
    program.save(file)


def open_session(file: Path, threads: int = 0) -> Any:
    """ONNX Runtime on the CPU; 0 threads: as it chooses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class _Reference:
    """Crops, the probabilities that an export must give for them, and where these come from."""

    crops: UInt8[np.ndarray, "b side side 3"]
    probabilities: Float[np.ndarray, "b classes"]
    description: str


def _reference(restored: RestoredRun) -> _Reference:
    stored, network = restored.stored, restored.network
    settings = stored.record.settings
    store = find_store(Path(settings.data.loading.store_dir), stored.record.data.fingerprint)
    if store is None:
        side = restored.geometry.side_px
        crops = np.random.default_rng(0).integers(0, 256, (_RANDOM_CROPS, side, side, 3), dtype=np.uint8)
        source = f"torch on {_RANDOM_CROPS} random crops (the run's store is not here)"
        return _Reference(crops, predict_probabilities(network, crops), source)
    rows, _, probabilities = stored.predictions[CLEAN]
    index = {cell: i for i, cell in enumerate(store.cells["cell_id"])}
    crops = store.crops(np.array([index[cell] for cell in rows["cell_id"].iloc[:_CELLS]]))
    dtype = settings.data.loading.embedding_dtype
    if settings.is_probe and dtype != "float32":
        source = f"torch on {len(crops)} test cells (the run's own features were rounded to {dtype})"
        return _Reference(crops, predict_probabilities(network, crops), source)
    return _Reference(crops, probabilities[:_CELLS], f"the run's predictions of {len(crops)} test cells")
