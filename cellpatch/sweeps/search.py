"""A search for settings: trials are asked for, trained, and compared on validation cells."""

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

from cellpatch.runs.outcome import Outcome
from cellpatch.runs.stored_run import StoredRun
from cellpatch.sweeps.search_space import SearchSpace
from cellpatch.sweeps.study import Scored, SearchStudy, first_tries

log = logging.getLogger(__name__)
_STORED = ("trained", "evaluated", "exists")
_UNFINISHED = ("interrupted", "locked")
Launch = Callable[[Sequence[list[str]], int], Sequence[Outcome]]  # of jobs, and how many jobs follow later
Score = Callable[[Sequence[str]], Scored]  # of a trial's runs


@dataclass(frozen=True)
class Budget:
    """How many trials a search has in all, and how many of them run at once."""

    n_trials: int
    n_parallel: int

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name} must be >= 1, but got {getattr(self, name)}")


def score_runs(runs_dir: Path, runs: Sequence[str]) -> Scored:
    """The validation macro-F1 in the records of runs; their test scores are not looked at.

    Raises ValueError if a record states none, or if the runs are of different cells.
    """
    records = [StoredRun.open(runs_dir / run).record for run in runs]
    scores = []
    for record in records:
        if record.val_macro_f1 is None:
            raise ValueError(f"{runs_dir / record.run}: its record states no val_macro_f1, which a search compares")
        scores.append(record.val_macro_f1)
    cells = {record.data.fingerprint for record in records}
    if len(cells) > 1:
        raise ValueError(f"the cells changed while this trial was trained: {', '.join(runs)} are of different cells")
    return Scored(runs, scores, cells.pop())


def run_search(study: SearchStudy, space: SearchSpace, budget: Budget, launch: Launch, score: Score) -> None:
    """Do the trials that are missing; ends early if jobs were interrupted, whose trials remain to be done.

    Failed trials are launched again first: their jobs decide whether a failed run is retried, as in any grid.
    """
    failed = study.failed()
    if failed and not _do(failed, study, space, budget, launch, score):
        return
    while trials := _next_trials(study, budget):
        if not _do(trials, study, space, budget, launch, score):
            return


def plan_search(study: SearchStudy, space: SearchSpace, budget: Budget, n_startup_trials: int, launch: Launch) -> None:
    """List the runs of trials that are known before any result; `study` is one in memory, and nothing is trained."""
    known = [*study.failed(), *study.running()]
    missing = budget.n_trials - len(first_tries(study.trials))
    drawn = max(0, min(missing, n_startup_trials - len(first_tries(study.trials))))
    known += [study.ask() for _ in range(drawn)]
    launch([job for trial in known for job in space.jobs_of(trial.params)], 0)
    print(f"{len(known)} trials are known; results choose the settings of {max(0, missing - drawn)} more")


def _next_trials(study: SearchStudy, budget: Budget) -> list[FrozenTrial]:
    """Interrupted trials, and new ones up to the number that run at once.

    Trials are asked for in fixed groups: an interrupted search proposes what an undisturbed one does.
    """
    interrupted, begun = study.running(), len(first_tries(study.trials))
    missing = -begun % budget.n_parallel if interrupted else budget.n_parallel
    return interrupted + [study.ask() for _ in range(min(missing, budget.n_trials - begun))]


def _do(
    trials: Sequence[FrozenTrial], study: SearchStudy, space: SearchSpace, budget: Budget, launch: Launch, score: Score
) -> bool:
    """Do the jobs of trials and end these; False if jobs were interrupted."""
    for trial in trials:
        log.info("trial %d of %d: %s", trial.number + 1, budget.n_trials, " ".join(space.settings_of(trial.params)))
    jobs = [space.jobs_of(trial.params) for trial in trials]
    later = max(0, budget.n_trials - len(first_tries(study.trials))) * len(jobs[0])
    outcomes = iter(launch([job for each in jobs for job in each], later))
    complete = True
    for trial, own in zip(trials, jobs, strict=True):
        ended = [next(outcomes) for _ in own]
        if any(outcome.state in _UNFINISHED for outcome in ended):
            complete = False
            continue
        stored = all(outcome.state in _STORED for outcome in ended)
        scored = score([outcome.run for outcome in ended]) if stored else None
        study.tell(trial, scored)
        shown = "failed" if scored is None else f"validation macro-F1 {_spread(scored.scores)}"
        log.info("trial %d: %s", trial.number + 1, shown)
    return complete


def format_search(study: SearchStudy, space: SearchSpace, program: str) -> str:
    """Lines for people: the best trial, how it was chosen, and the command that trains it."""
    n, failed, running = len(first_tries(study.trials)), len(study.failed()), len(study.running())
    head = f"search: {n} trials, {failed} failed, {running} interrupted"
    best = study.best()
    if best is None:
        return f"{head}; none is complete"
    params, scored = best
    seeds = ",".join(seed.removeprefix("seed=") for seed in space.seeds)
    words = [*space.fixed, *space.settings_of(params), *([f"seed={seeds}"] if seeds else [])]
    return "\n".join(
        [
            head,
            f"best: {' '.join(space.settings_of(params))}",
            f"    validation macro-F1 {_spread(scored.scores)}",
            "    chosen on validation cells: this score is too high by chance; report the test scores of its runs",
            f"    {shlex.join([program, 'train', *(['-m'] if len(space.seeds) > 1 else []), *words])}",
        ]
    )


def _spread(scores: Sequence[float]) -> str:
    if len(scores) == 1:
        return f"{scores[0]:.4f} (one seed)"
    return f"{np.mean(scores):.4f} (mean of {len(scores)} seeds, {min(scores):.4f} to {max(scores):.4f})"
