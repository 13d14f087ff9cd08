"""A run in MLflow: its parameters, the rows of its training, its numbers."""

import logging
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from pytorch_lightning.loggers import MLFlowLogger

from cellpatch.data.dataset import CellDataset
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking.about import About
from cellpatch.runs.tracking.facts import hyperparameters, numbers
from cellpatch.runs.tracking.scalar_trackers import ScalarTracker
from cellpatch.runs.tracking.settings import Mlflow
from cellpatch.runtime.atomic_io import file_lock

logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table of a new database


class MlflowTracker(ScalarTracker):
    """An MLflow run, found again by its tag `cellpatch.run`; one that is shown anew replaces an earlier one."""

    def __init__(self, settings: Mlflow, about: About) -> None:
        folder = about.runs_dir / ".mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        uri = settings.tracking_uri or f"sqlite:///{folder.resolve()}/mlflow.db"
        artifacts = None if settings.tracking_uri else (folder / "artifacts").resolve().as_uri()
        with file_lock(folder / ".lock"):  # one process makes the database
            client = MlflowClient(uri)
            experiment = client.get_experiment_by_name(settings.experiment)
            experiment_id = (
                experiment.experiment_id if experiment else client.create_experiment(settings.experiment, artifacts)
            )
        known = client.search_runs([experiment_id], f"tags.`cellpatch.run` = '{about.run}'")
        earlier = [run.info.run_id for run in known]
        tags = {"cellpatch.run": about.run, "group": about.group, "tags": " ".join(about.tags)}
        if about.anew:
            for run_id in earlier:
                client.delete_run(run_id)
        run_id = earlier[0] if earlier and not about.anew else None
        super().__init__(MLFlowLogger(settings.experiment, about.run, uri, tags=tags, run_id=run_id))

    def finish(self, run: StoredRun, dataset: CellDataset | None) -> None:
        """Parameters that MLflow does not have yet: it refuses to change one."""
        known = self._logger.experiment.get_run(self._logger.run_id).data.params
        flat = _flat(hyperparameters(run.record))
        self._logger.log_hyperparams({key: value for key, value in flat.items() if key not in known})
        self._logger.log_metrics(numbers(run.record), step=run.record.updates or 0)


def _flat(node: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= _flat(value, f"{before}{key}/") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found
