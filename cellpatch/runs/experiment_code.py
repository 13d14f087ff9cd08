"""The training code of an experiment, and how it differs from that of a run that exists."""

import logging
from dataclasses import replace

from cellpatch.data.dataset import CellDataset
from cellpatch.data.unlabelled import UnlabelledCells
from cellpatch.pretraining.methods import Pretraining
from cellpatch.probing.fit import ProbeFit
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.identity import code_number
from cellpatch.runs.record import TrainingCode
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.training_code import training_code

log = logging.getLogger(__name__)


def current_code(experiment: Experiment) -> TrainingCode:
    """Number and fingerprint of the code that trains this experiment today."""
    own: list[type] = [type(experiment.adaptation), experiment.model.backbone_class]
    own += [] if experiment.augment is None else [type(experiment.augment)]
    if isinstance(experiment.adaptation, Pretraining):
        from cellpatch.pretraining.fit import PretrainingFit  # Lightning takes seconds to import

        own += [PretrainingFit, UnlabelledCells]
    data: list[type] = [CellDataset, type(experiment.data.split)]
    if isinstance(experiment.adaptation, Probe):
        return training_code(own, [*data, ProbeFit])
    from cellpatch.training.fit import GradientFit  # Lightning takes seconds to import, probes do without

    return replace(training_code(own, [*data, GradientFit]), number=code_number(experiment.settings))


def code_differences(run: StoredRun, experiment: Experiment) -> list[str]:
    """A message if other code than today's trained a run that exists; it is logged too."""
    trained, today = run.record.training_code, current_code(experiment)
    if trained == today:
        return []
    if trained is None:
        message = f"trained by cellpatch {run.record.cellpatch}, which kept no fingerprint of its training code"
        log.info("%s: %s", run.name, message)
        return [message]
    message = (
        f"trained by other code than today's ({trained.fingerprint}, today {today.fingerprint}) and not trained again: "
        "move it away to train it with today's code"
    )
    log.warning("%s: %s", run.name, message)
    return [message]
