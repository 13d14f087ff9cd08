"""Hydra's basic sweeper for several grids in one experiment: pairs of settings that do not fit never become jobs."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cellpatch.sweeps.compose import compose_together
from cellpatch.sweeps.jobs import launch_jobs, register_jobs, summary_if_interrupted


class PairedSweeper(BasicSweeper):
    """The jobs of each of `grids`, one after the other; `params` and the command line vary in every one of them.

    What the command line gives for a key of the grids picks among their values: `model=uni` leaves the jobs with it.
    Raises CompactHydraException for a value that no grid has.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        grids: Sequence[dict[str, str]] = (),
    ) -> None:
        super().__init__(max_batch_size, params)
        self.grids = [dict(grid) for grid in grids]
        self.jobs: list[list[str]] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        context = compose_together(hydra_context, config)
        super().setup(hydra_context=context, task_function=task_function, config=config)

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        parser = OverridesParser.create()
        grids = [
            _values(parser.parse_overrides([f"{key}={value}" for key, value in grid.items()])) for grid in self.grids
        ]
        requested = _values(overrides)
        for key in {key for grid in grids for key in grid} & requested.keys():
            available = {value for grid in grids for value in grid.get(key, requested[key])}
            if missing := [value for value in requested[key] if value not in available]:
                raise CompactHydraException(
                    f"{', '.join(f'{key}={value}' for value in missing)}: not in this experiment, whose grids have "
                    f"{', '.join(sorted(available))}"
                )
        jobs = [job for grid in grids or [{}] for job in _jobs(grid, requested)]
        if not jobs:
            raise CompactHydraException("no job of this experiment has all values that the command line gives")
        self.jobs = jobs
        return list(self.split_overrides_to_chunks(jobs, max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose jobs before any starts: enough that each value of each key is in one, since each takes 0.2 s."""
        seen: set[str] = set()
        sample = []
        for job in batch:
            sample += [] if seen.issuperset(job) else [job]
            seen |= set(job)
        super().validate_batch_is_legal(sample)

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra's, but the grid's summary is printed even if the launcher fails because a worker died.

        The jobs are listed in the grid's folder, which is locked while they run.
        """
        self.launcher = _Listed(self.launcher, self)  # type: ignore[assignment]
        return super().sweep(arguments)


class _Listed:
    """A launcher, unchanged: launchers send themselves to their workers, which do not import this module."""

    def __init__(self, launcher: Any, sweeper: PairedSweeper) -> None:
        self.launcher, self.sweeper = launcher, sweeper

    def launch(self, batch: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        assert self.sweeper.config is not None
        folder, runs_dir = Path(self.sweeper.config.hydra.sweep.dir), Path(self.sweeper.config.runs_dir)
        with register_jobs(folder, self.sweeper.jobs), summary_if_interrupted(folder, runs_dir):
            return launch_jobs(self.launcher, batch, initial_job_idx)


def _values(overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The values of each key; of a key given twice the last."""
    by_key = {}
    for override in overrides:
        if not override.is_sweep_override():
            values = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
        else:
            raise CompactHydraException(f"{override.input_line}: a grid takes lists, ranges and globs, not intervals")
        by_key[override.get_key_element()] = values
    return by_key


def _jobs(grid: dict[str, list[str]], requested: dict[str, list[str]]) -> Iterator[list[str]]:
    picked = {key: [value for value in values if value in requested.get(key, values)] for key, values in grid.items()}
    axes: dict[str, Any] = picked | {key: values for key, values in requested.items() if key not in grid}
    for job in itertools.product(*axes.values()):
        yield [f"{key}={value}" for key, value in zip(axes, job, strict=True)]
