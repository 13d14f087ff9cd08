"""A stored run's network, from its model and its stored tensors."""

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
        tensors = {name.removeprefix("head."): tensor for name, tensor in state.items()}
        head = adaptation.head(tensors, ProbeChoice.from_json(record.probe or {}), n_classes)
        return assemble_network(model.open(record.weights), path.under(), head).eval()
    from cellpatch.training.fit import new_network  # Lightning takes seconds to import, probes do without

    network, _ = new_network(model, record.weights, adaptation, path, n_classes)
    try:
        load_trained(network, state)
    except ValueError as error:
        raise ValueError(f"{run.folder}: {WEIGHTS} {error}") from error
    return network.eval()


def restore_predict_fn(run: StoredRun, experiment: Experiment, dataset: CellDataset) -> Predict:
    """How a stored run predicts cells of a dataset under conditions that it was not evaluated under yet."""
    path = experiment.path(dataset.store.geometry)
    network = restore_network(run, experiment.model, experiment.adaptation, path)
    if isinstance(experiment.adaptation, Probe):
        return cached_features(experiment, run.record.weights, dataset).make_predict_fn(network.head)
    return make_predict_fn(network, dataset.store, path, experiment.trainer.device, experiment.inference_batch)
