"""A stored run made ready for new crops."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from cellpatch.config.assemble import assemble_stored
from cellpatch.data.store.reader import Geometry
from cellpatch.models.network import Network
from cellpatch.optics.operator import OpticalPath
from cellpatch.runs.restore import restore_network
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.device import inference_mode


@dataclass(frozen=True, eq=False)
class RestoredRun:
    """A stored run's network, as it was evaluated, for crops of the geometry that its record states."""

    stored: StoredRun
    network: Network
    geometry: Geometry

    @cached_property
    def classes(self) -> np.ndarray:
        """Names of the classes, in the order of the probabilities."""
        return np.array(self.stored.record.classes)


def restore(folder: Path, weights_file: Path | None = None) -> RestoredRun:
    """Restore a stored run; `weights_file` is where its published weights are, if they have moved since training.

    Raises ValueError if they are absent or others than the run's, if a file of the run is not as its record states, or
    if the record names a component that cellpatch does not have.
    """
    stored = StoredRun.open(folder)
    record = stored.record
    if record.data.geometry is None:
        raise ValueError(f"{folder}: its record does not state the crops' geometry: train it with this version")
    try:
        model, adaptation, optics = assemble_stored(record.settings, weights_file)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    geometry = record.data.geometry
    path = OpticalPath(geometry.crop_px, geometry.margin_px, model.input_px, optics.via_px, optics.resize)
    return RestoredRun(stored, restore_network(stored, model, adaptation, path), geometry)


@inference_mode()
def predict_probabilities(
    network: Network, crops: UInt8[np.ndarray, "b side side 3"]
) -> Float[np.ndarray, "b classes"]:
    """Probabilities of stored crops, float32, on the device that the network is on."""
    device = next(network.parameters()).device
    return network(torch.from_numpy(crops).to(device)).softmax(dim=1).cpu().numpy()


@inference_mode()
def predict_features(network: Network, crops: UInt8[np.ndarray, "b side side 3"]) -> Float[np.ndarray, "b features"]:
    """Features of stored crops, float32, on the device that the network is on."""
    device = next(network.parameters()).device
    return network.features(network.pixels(torch.from_numpy(crops).to(device))).float().cpu().numpy()
