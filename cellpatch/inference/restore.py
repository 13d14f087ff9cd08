"""A stored run's network."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from cellpatch.config.instantiate import build, without
from cellpatch.config.validate import check
from cellpatch.data.store.reader import Geometry
from cellpatch.models.backbone import load_trained
from cellpatch.models.network import Network, build_optics, open_backbone
from cellpatch.probing.probes import Probe
from cellpatch.runs.record import check_files, read_record
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.fit import new_network


def geometry_of(record: dict[str, Any]) -> Geometry:
    """The geometry of the crops that a stored run takes; raises ValueError if an earlier version did not state it."""
    if "geometry" not in record["data"]:
        raise ValueError(f"{record['run']}: its record does not state the crops' geometry: train it with this version")
    return Geometry(**record["data"]["geometry"])


def restore(run: Path, weights_file: Path | None = None) -> Network:
    """The network of a stored run, as it was evaluated, for crops of the geometry that the record states.

    `weights_file` is where the published weights are now, if elsewhere than then. Raises ValueError if they are
    absent or others than the run's, if its files are not as the record says, or its config builds what is not ours.
    """
    check_files(run)
    record = read_record(run)
    config = record["config"] | {"augment": {}, "weights_dir": None}  # neither is part of what was trained
    plain, n_classes = check(OmegaConf.create(config)), len(record["classes"])
    geometry = geometry_of(record)
    if weights_file is not None:
        if "weights" not in plain["model"]:
            raise ValueError(f"{run}: was trained from scratch: it has no published weights to look for")
        plain["model"]["weights"]["file"] = str(weights_file)
    adaptation: FineTuning | Probe = build(without(plain["adapt"], "name"))
    state = load_file(run / "weights.safetensors")
    if isinstance(adaptation, FineTuning):
        network, _ = new_network(plain, adaptation, record["weights"], geometry, n_classes)
        try:
            load_trained(network, state)
        except ValueError as error:
            raise ValueError(f"{run}: weights.safetensors {error}") from error
    else:
        backbone = open_backbone(plain["model"], record["weights"])
        head = adaptation.head({name.removeprefix("head."): t for name, t in state.items()}, record["probe"], n_classes)
        network = Network(backbone, build_optics(plain, geometry), head).to(memory_format=torch.channels_last)
    return network.eval()
