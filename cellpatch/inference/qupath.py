"""Export a run for QuPath: an ONNX file with float input, channels first, and the JSON of an object classifier.

QuPath's OpenCV DNN object classifier (`OpenCVModelObjectClassifier`, in QuPath since 0.3.0) cuts a patch around an
object's centroid at a requested pixel size, and gives it to OpenCV's dnn as RGB from 0 to 255. What is written is
compared with the run by OpenCV's own dnn. It was not tested in QuPath itself.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cellpatch.inference.export import TOLERANCE
from cellpatch.inference.restore import RestoredRun, predict_probabilities, restore
from cellpatch.models.network import Network
from cellpatch.runtime.atomic_io import temporary_directory
from cellpatch.runtime.json_types import Json

_CROPS = 16  # that are compared
_OPSET = 14  # the oldest that has attention: OpenCV reads old ones more completely


class PatchClassifier(nn.Module):
    """A network from one patch in 0 to 255, channels first, to probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, patch: Float[Tensor, "1 3 side side"]) -> Float[Tensor, "1 classes"]:
        return self.network.classify(patch / 255).softmax(dim=1)


@dataclass(frozen=True)
class QuPathFiles:
    """The two files of an export, and how far OpenCV's probabilities are from the run's."""

    model: Path
    classifier: Path
    difference: float


def export_qupath(run: Path, model: Path, weights_file: Path | None = None) -> QuPathFiles:
    """Write `model` (.onnx) and the classifier beside it (.json), both or none.

    Raises ValueError for a run that `restore` refuses, whose crops state no scale, whose network OpenCV cannot read,
    or if a probability differs by more than TOLERANCE.
    """
    if model.suffix != ".onnx":
        raise ValueError(f"the file's name must end in .onnx, but got {model}")
    restored = restore(run, weights_file)
    geometry = restored.geometry
    if geometry.um_per_px is None:
        raise ValueError(f"{run}: its crops state no scale, and QuPath cuts patches at one: train with data.um_per_px")
    with temporary_directory(model.parent, "export") as folder:
        temporary = folder / model.name
        _save(restored, temporary)
        difference = _compare(restored, temporary)
        if not difference <= TOLERANCE:
            raise ValueError(f"{model}: not written: OpenCV's probabilities differ from the run's by {difference:.2g}")
        text = json.dumps(object_classifier(restored, model.resolve()), indent=2, ensure_ascii=False)
        temporary.with_suffix(".json").write_text(text, encoding="utf-8")
        classifier = model.with_suffix(".json")
        temporary.with_suffix(".json").replace(classifier)
        temporary.replace(model)
    return QuPathFiles(model, classifier, difference)


def object_classifier(restored: RestoredRun, model: Path) -> Json:
    """The classifier as QuPath reads it: all detections, a patch of the stored side with its margin, our classes."""
    geometry = restored.geometry
    side = geometry.side_px
    return {
        "object_classifier_type": "OpenCVModelObjectClassifier",
        "model": {
            "dnn_model": "OpenCVDnn",
            "name": restored.stored.name,
            "modelType": "CLASSIFICATION",
            "pathModel": model.as_uri(),
            "framework": "onnx",
            "backend": 0,
            "target": 0,
            "crop": False,
            "swapRB": False,
            "size": {"width": side, "height": side},
            "scale": 1.0,
        },
        "pathClasses": [{"name": str(name)} for name in restored.classes],
        "requestedPixelSize": geometry.um_per_px,
        "width": side,
        "height": side,
        "filter": "DETECTIONS_ALL",
        "timestamp": 0,
    }


def _save(restored: RestoredRun, file: Path) -> None:
    try:
        import onnx  # noqa: F401 (torch needs it, with a message that is less clear)
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install 'cellpatch[export]'") from error
    side = restored.geometry.side_px
    network = restored.network.cpu().to(memory_format=torch.contiguous_format)
    raw = file.with_name("raw.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: shapes are constant, and the newer exporter's nodes are too new
        torch.onnx.export(
            PatchClassifier(network).eval(),
            (torch.zeros(1, 3, side, side),),
            raw,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["patch"],
            output_names=["probabilities"],
        )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # folds shapes to constants
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def _compare(restored: RestoredRun, file: Path) -> float:
    """The largest difference of a probability by OpenCV's dnn from the run's, on random crops."""
    import cv2  # albumentations brings it

    side = restored.geometry.side_px
    crops: UInt8[np.ndarray, "n side side 3"] = np.random.default_rng(0).integers(
        0, 256, (_CROPS, side, side, 3), dtype=np.uint8
    )
    try:
        net = cv2.dnn.readNet(str(file), "", "onnx")
        found = []
        for crop in crops:
            net.setInput(cv2.dnn.blobFromImage(crop, 1.0, (side, side), (0, 0, 0), swapRB=False, crop=False))
            found.append(np.array(net.forward()).reshape(1, -1))
    except cv2.error as error:
        raise ValueError(f"{file.name}: OpenCV's dnn cannot run this network ({error})") from error
    return float(np.abs(np.concatenate(found) - predict_probabilities(restored.network, crops)).max())
