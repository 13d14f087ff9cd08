"""Export a stored run as one ONNX file: native uint8 crops in, class probabilities out.

python -m cellpatch.export RUN OUT.onnx [--weights FILE]

Optics, normalisation and softmax are inside. Needs the extra `export` (onnx, onnxscript, onnxruntime). The file is kept
only if ONNX Runtime's probabilities are those of the run: on its test cells where its store is at hand, else on random
crops. Its metadata names run, classes, side and scale.
"""

import json
import tempfile
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cellpatch.data.dataset import find_store
from cellpatch.data.store.reader import Geometry
from cellpatch.inference.predict import probabilities_of
from cellpatch.inference.restore import geometry_of, restore
from cellpatch.models.network import Network
from cellpatch.runs.record import read_predictions, read_record

TOLERANCE = 1e-4  # largest difference of a probability that an export may have
_CELLS = 256  # test cells that are compared
_AT_A_TIME = 32


class Deployed(nn.Module):
    """A network that ends in probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: UInt8[Tensor, "b side side 3"]) -> Float[Tensor, "b classes"]:
        return self.network(crops).softmax(dim=1)


def export(run: Path, file: Path, weights_file: Path | None = None) -> str:
    """Write the file, whole or not at all, and tell what it was compared with and how far they differ.

    Tensors of a model above 1.5 GB go into a second file beside it, FILE.data. Raises ValueError for a run that cannot
    be restored, or if a probability differs by more than TOLERANCE.
    """
    if file.suffix != ".onnx":
        raise ValueError(f"the file's name must end in .onnx, but got {file}")
    network, record = restore(run, weights_file).cpu(), read_record(run)
    geometry = geometry_of(record)
    facts = {"run": run.name, "cellpatch": record["cellpatch"], "classes": json.dumps(record["classes"])}
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as folder:
        made = Path(folder) / file.name  # the second file is found by its name
        save_onnx(network, geometry, made, facts | {"geometry": json.dumps(record["data"]["geometry"])})
        crops, expected, what = _reference(run, record, network, geometry)
        session = open_session(made)
        parts = [session.run(None, {"crops": part})[0] for part in np.array_split(crops, ceil(len(crops) / _AT_A_TIME))]
        got = np.concatenate(parts)
        apart = float(np.abs(got - expected).max())
        if not apart <= TOLERANCE:
            raise ValueError(f"{file}: not written: its probabilities differ from {what} by up to {apart:.2g}")
        for part in sorted(Path(folder).iterdir(), key=lambda part: part == made):
            part.replace(file.with_name(part.name))
    return f"compared with {what}: probabilities differ by at most {apart:.1e}"


def save_onnx(network: Network, geometry: Geometry, file: Path, facts: Mapping[str, str]) -> None:
    """Write `Deployed` of the network, on the CPU, with `facts` as metadata; the number of cells is free.

    Raises ValueError if the extra `export` is not installed.
    """
    try:
        import onnxscript  # noqa: F401 (torch needs it and says so less clearly)
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
    program.model.metadata_props.update(facts)
    program.save(file)


def open_session(file: Path, threads: int = 0) -> Any:
    """ONNX Runtime on the CPU; 0 threads: as it chooses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _reference(
    run: Path, record: dict[str, Any], network: Network, geometry: Geometry
) -> tuple[UInt8[np.ndarray, "b side side 3"], Float[np.ndarray, "b classes"], str]:
    """Crops, their probabilities, and what these are."""
    store = find_store(record)
    if store is None:
        side = geometry.side_px
        crops = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
        return crops, probabilities_of(network, crops), "torch on 64 random crops (the run's store is not here)"
    rows, probabilities = read_predictions(run)
    clean = np.flatnonzero(rows["kind"] == "none")[:_CELLS]
    place = {cell: i for i, cell in enumerate(store.cells["cell_id"])}
    crops = store.crops(np.array([place[cell] for cell in rows["cell_id"].iloc[clean]]))
    kept = record["config"]["data"]["loading"]["embedding_dtype"]
    if "views" in record["config"]["adapt"] and kept != "float32":
        told = f"torch on {len(clean)} test cells (the run's own features were rounded to {kept})"
        return crops, probabilities_of(network, crops), told
    return crops, probabilities[clean], f"the run's predictions of {len(clean)} test cells"
