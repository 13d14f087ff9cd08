"""Train what a config describes: the work of one job."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch.config.assemble import assemble
from cellpatch.runs.outcome import Outcome
from cellpatch.runs.runner import run_experiment


def train(config: DictConfig, wait: bool = True) -> Outcome:
    """Assemble the experiment of a config and run it; see `run_experiment`."""
    return run_experiment(assemble(config), wait, _grid())


def _grid() -> str | None:
    """A name that the runs of one multirun share."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name
