"""A stored run's network, from its model and its stored tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cellpatch.data.dataset import CellDataset
from cellpatch.models.backbone import load_trained
from cellpatch.models.network import Network, assemble_network
from cellpatch.models.predictor import Predict, make_predict_fn
from cellpatch.models.spec import ModelSpec
from cellpatch.optics.operator import OpticalPath
from cellpatch.probing.probes import Probe, ProbeChoice
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.fits import cached_features
from cellpatch.runs.stored_run import WEIGHTS, StoredRun
from cellpatch.runs.weights import read_weights
from cellpatch.training.adaptation import FineTuning


def restore_network(run: StoredRun, model: ModelSpec, adaptation: FineTuning | Probe, path: OpticalPath) -> Network:
    """The network of a stored run, as it was evaluated.

    Raises ValueError if its published weights are absent or others than the run's, or if a file of the run is not as
    the record states.
    """
    run.check_files()
    record, state = run.record, read_weights(run)
    n_classes = len(record.classes)
    if isinstance(adaptation, Probe):
        backbone = model.open(record.weights)
        head = _head(run, adaptation, state, backbone.num_features)
        return assemble_network(backbone, path.under(), head).eval()
    from cellpatch.training.fit import new_network  # Lightning takes seconds to import, probes do without

    network, _ = new_network(model, record.weights, adaptation, path, n_classes)
    try:
        load_trained(network, state)
    except ValueError as error:
        raise ValueError(f"{run.folder}: {WEIGHTS} {error}") from error
    return network.eval()


def _head(run: StoredRun, probe: Probe, state: Mapping[str, Tensor], features: int) -> nn.Module:
    """The fitted head of a probe; raises ValueError if its tensors are others than those of a fit to such features."""
    tensors = {name.removeprefix("head."): tensor for name, tensor in state.items()}
    choice = ProbeChoice.from_json(run.record.probe or {})
    wanted = (1, len(run.record.classes))
    try:
        head = probe.head(tensors, choice, wanted[1])
        got = tuple(head(torch.zeros(1, features)).shape)
    except (LookupError, RuntimeError, AssertionError) as error:
        raise ValueError(f"{run.folder}: {WEIGHTS} does not fit its probe ({type(error).__name__}: {error})") from error
    if got != wanted:
        raise ValueError(f"{run.folder}: {WEIGHTS} must give logits {list(wanted)} of a cell, but gives {list(got)}")
    return head


def restore_predict_fn(run: StoredRun, experiment: Experiment, dataset: CellDataset) -> Predict:
    """How a stored run predicts cells of a dataset under conditions that it was not evaluated under yet."""
    path = experiment.path(dataset.store.geometry)
    network = restore_network(run, experiment.model, experiment.adaptation, path)
    if isinstance(experiment.adaptation, Probe):
        return cached_features(experiment, run.record.weights, dataset).make_predict_fn(network.head)
    return make_predict_fn(network, dataset.store, path, experiment.trainer.device, experiment.inference_batch)
