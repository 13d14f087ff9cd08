"""A sweeper of Hydra that searches with Optuna, on validation cells: see conf/hydra/sweeper/optuna.yaml."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from cellpatch.runs.outcome import Outcome
from cellpatch.sweeps.compose import compose_together
from cellpatch.sweeps.jobs import launch_jobs, register_jobs, run_deferred_jobs

if TYPE_CHECKING:  # Hydra imports its plugins at each start, and Optuna takes half a second
    from cellpatch.runs.settings import Settings
    from cellpatch.sweeps.search_space import SearchSpace


class OptunaSweeper(BasicSweeper):
    """Trials of settings, asked for and ended in this process; jobs run wherever the launcher puts them.

    The study is a file below runs_dir, so the same command continues. Raises ValueError before any job starts: without
    Optuna, or for settings that cannot be searched.
    """

    def __init__(
        self,
        n_trials: int,
        n_parallel: int,
        n_startup_trials: int,
        seed: int,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self.n_trials, self.n_parallel = n_trials, n_parallel
        self.n_startup_trials, self.seed = n_startup_trials, seed
        self.jobs: list[list[str]] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        context = compose_together(hydra_context, config)
        super().setup(hydra_context=context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        if find_spec("optuna") is None:
            raise ValueError("hydra/sweeper=optuna needs Optuna: pip install 'cellpatch[optuna]'")
        self._search([*self._parse_config(), *arguments])

    def _search(self, overrides: Sequence[str]) -> None:
        from cellpatch.config.assemble import assemble
        from cellpatch.sweeps.search import Budget, format_search, plan_search, run_search, score_runs
        from cellpatch.sweeps.search_space import parse_space
        from cellpatch.sweeps.study import Sampling, copied_study, open_study

        assert self.config is not None
        budget, sampling = Budget(self.n_trials, self.n_parallel), Sampling(self.seed, self.n_startup_trials)
        space = parse_space(overrides)
        samples = [space.jobs_of(params)[0] for params in space.samples()]
        self.validate_batch_is_legal(samples)
        settings = [assemble(self._composed(job)).settings for job in samples]  # a wrong value is an error here
        runs_dir = Path(self.config.runs_dir)
        file = runs_dir / ".searches" / f"{self._identity(space, settings[0])}.jsonl"
        self._register([])
        if self.config.dry_run:
            study = copied_study(file, space.distributions, sampling)
            plan_search(study, space, budget, self.n_startup_trials, self._launch)
            return
        with open_study(file, space.distributions, sampling) as study:
            run_search(study, space, budget, self._launch, lambda runs: score_runs(runs_dir, runs))
            print(f"{format_search(study, space, 'cellpatch')}\n    trials: {file}")

    def _identity(self, space: "SearchSpace", settings: "Settings") -> str:
        """A hash of all that determines the trials: the settings that they share, what is varied, seeds, sampling."""
        from optuna.distributions import distribution_to_json

        from cellpatch.runs.identity import identity

        shared = identity(settings, "", None)
        varied = {key: distribution_to_json(each) for key, each in space.distributions.items()}
        known = json.dumps([shared, varied, list(space.seeds), self.seed, self.n_startup_trials], sort_keys=True)
        return hashlib.sha256(known.encode()).hexdigest()[:12]

    def _composed(self, job: Sequence[str]) -> DictConfig:
        """The config that a job gets."""
        assert self.hydra_context is not None
        assert self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
        with read_write(config), open_dict(config):
            del config["hydra"]
        return config

    def _launch(self, jobs: Sequence[list[str]], later: int) -> Sequence[Outcome]:
        """Do jobs and give their outcomes; `later` are jobs whose settings are not known yet."""
        first = len(self.jobs)
        self.jobs += jobs
        with self._register([*self.jobs, *([f"trial={first + n}"] for n in range(later))]):
            for result in launch_jobs(self.launcher, list(jobs), first):
                _ = result.return_value  # raises a job's error, such as Ctrl-C
        return run_deferred_jobs(self._folder)[first : first + len(jobs)]

    def _register(self, jobs: Sequence[Sequence[str]]) -> Any:
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
            OmegaConf.save(self.config, self._folder / "multirun.yaml")
        return register_jobs(self._folder, jobs)

    @property
    def _folder(self) -> Path:
        assert self.config is not None
        return Path(self.config.hydra.sweep.dir)
