"""A study of Optuna in a file of JSON lines: which settings were tried, and how they scored on validation cells."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from filelock import Timeout
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from cellpatch.runtime.atomic_io import file_lock

_NAME = "search"
_DIRECTION: Literal["maximize"] = "maximize"
_RETRIES = "retries"  # of a trial that succeeded later: the number of the failed one
_CELLS = "cells"  # of the study; its other keys are numbers of trials
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """A trial's runs and their validation macro-F1, one a seed; `cells` is the fingerprint of their cells."""

    runs: Sequence[str]
    scores: Sequence[float]
    cells: str

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Sampling:
    """How settings are proposed: by TPE (tree-structured Parzen estimator) after trials drawn at random."""

    seed: int
    n_startup_trials: int

    def propose(self, trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]) -> Params:
        """The next settings after `trials`, the same whenever it is asked: a search that resumes takes no other way.

        A sampler of Optuna with one seed for all trials would repeat its first trials after each start.
        """
        state = np.random.SeedSequence((self.seed, len(first_tries(trials)))).generate_state(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar, in Optuna 4
            sampler = TPESampler(seed=int(state[0]), n_startup_trials=self.n_startup_trials, constant_liar=True)
        copy = optuna.create_study(direction=_DIRECTION, sampler=sampler)
        copy.add_trials(trials)
        return copy.ask(dict(space)).params


class SearchStudy:
    """The trials of a search; each change is one line of its file."""

    def __init__(self, study: optuna.Study, space: Mapping[str, BaseDistribution], sampling: Sampling) -> None:
        self._study, self._space, self._sampling = study, space, sampling

    @property
    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def running(self) -> list[FrozenTrial]:
        """Trials without an end: they are under way, or were interrupted."""
        return [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    def failed(self) -> list[FrozenTrial]:
        """Failed trials that did not succeed since."""
        retried = {trial.user_attrs.get(_RETRIES) for trial in self.trials}
        return [each for each in self.trials if each.state == TrialState.FAIL and each.number not in retried]

    def best(self) -> tuple[Params, Scored] | None:
        """The settings with the highest mean, the earliest of equals; None without a complete trial."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        if not complete:
            return None
        best = max(complete, key=lambda trial: (trial.values[0], -trial.number))
        return best.params, Scored(**self._study.user_attrs[str(best.number)])

    def ask(self) -> FrozenTrial:
        """Start a trial: one line has all of it, so that a kill leaves all or nothing."""
        params = dict(self._sampling.propose(self.trials, self._space))
        self._study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=dict(self._space)))
        return self.trials[-1]

    def tell(self, trial: FrozenTrial, scored: Scored | None) -> None:
        """End a trial with its scores, or as failed; a failed one that succeeds later gets a trial beside it.

        Raises ValueError if its cells are not those of the trials before.
        """
        if scored is None:
            if trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
            return
        self._check_cells(scored.cells)
        number = trial.number if trial.state == TrialState.RUNNING else len(self.trials)
        self._study.set_user_attr(str(number), asdict(scored))
        if trial.state == TrialState.RUNNING:
            self._study.tell(number, scored.mean)
        else:
            self._study.add_trial(
                create_trial(
                    value=scored.mean,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={_RETRIES: trial.number},
                )
            )

    def _check_cells(self, cells: str) -> None:
        known = self._study.user_attrs.get(_CELLS)
        if known is None:
            self._study.set_user_attr(_CELLS, cells)
        elif known != cells:
            raise ValueError(
                f"the cells changed since this search began (fingerprint {known}, now {cells}): "
                "scores on different cells cannot be compared; search in another runs_dir"
            )


def first_tries(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: a success after a failure stands beside the failed trial."""
    return [trial for trial in trials if _RETRIES not in trial.user_attrs]


@contextmanager
def open_study(file: Path, space: Mapping[str, BaseDistribution], sampling: Sampling) -> Iterator[SearchStudy]:
    """The study of a file, which is made if it is missing; no other process has it meanwhile.

    Raises ValueError if another process has it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file_lock(file.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process is at this search: it has locked {file}") from None
    try:
        _cut_unfinished_line(file)
        storage = JournalStorage(JournalFileBackend(str(file), lock))  # type: ignore[arg-type]  # held: it counts
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(storage=storage, study_name=_NAME, direction=_DIRECTION, load_if_exists=True)
        yield SearchStudy(study, space, sampling)
    finally:
        lock.release()


def copied_study(file: Path, space: Mapping[str, BaseDistribution], sampling: Sampling) -> SearchStudy:
    """The study of a file in memory, for a dry run: nothing is written; empty without a file."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=_DIRECTION)
    if file.exists():
        stored = optuna.load_study(study_name=_NAME, storage=JournalStorage(JournalFileBackend(str(file))))
        study.add_trials(stored.get_trials())
    return SearchStudy(study, space, sampling)


def _cut_unfinished_line(file: Path) -> None:
    """Remove what a kill, or a full disk, left of a last line: the next line would be joined to it."""
    if file.exists():
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with file.open("r+b") as stream:
                stream.truncate(whole)
