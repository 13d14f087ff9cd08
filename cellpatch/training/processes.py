"""What Lightning prints in this process, and in those that it starts for several devices."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.strategies import DDPStrategy

from cellpatch.runtime.logs import log_to_terminal

_LOGGERS = ("pytorch_lightning", "lightning_fabric")
_IGNORED = (
    ".*does not have many workers.*",  # batches come whole from memory
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
    ".*functional.all_gather is deprecated.*",
    ".*The `srun` command is available.*",  # a run is one process to Slurm
    ".*in eval mode at the start of training.*",  # frozen parts are, on purpose
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's notices at each start, and warnings that do not apply here or that a user cannot act on."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        with warnings.catch_warnings():
            _quieten()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _quieten() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message=message)


class SpawnedProcesses(DDPStrategy):
    """Processes that train together, one per device; they log what the process does that starts them.

    What reaches them is pickled, and a handler's formatter may hold a terminal: they get the level alone.
    """

    def __init__(self) -> None:
        super().__init__(start_method="spawn")
        self._level = logging.getLogger().level

    def setup_environment(self) -> None:
        """Lightning calls it in each process, before all else."""
        log_to_terminal(self._level)
        _quieten()
        super().setup_environment()
