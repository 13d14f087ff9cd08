"""Jobs of a grid: what became of each, what another process was at, and how the command ends.

A job notes its outcome in a file of its own below the grid's folder, so that the end can be told whatever process or
machine it ran on. A failed run leaves its stack in runs_dir/.failed until it succeeds.
"""

import json
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cellpatch.errors import UnavailableError
from cellpatch.publish import replacing

log = logging.getLogger(__name__)
State = Literal[
    "trained",
    "evaluated",
    "exists",
    "failed",
    "failed before",
    "unavailable",  # its weights cannot be had here
    "elsewhere",  # for the moment: another process is at the run
    "cut off",
    "to train",
    "to evaluate",
]


@dataclass(frozen=True)
class Outcome:
    """What became of a job's run and what there is to say of it; of a dry run, seconds and MiB if they can be told.

    `run` is the job's overrides where its run has no name yet.
    """

    run: str
    state: State
    said: Sequence[str] = ()
    seconds: float | None = None
    mib: float | None = None


Work = Callable[[DictConfig, bool], Outcome]  # of a config, and whether to wait for another process
_BAD = ("failed", "failed before", "cut off")
_TOLD = (*_BAD, "unavailable")
_LINES = 3  # of what a failure said, at the end
_put_off: list[tuple[Path, Any, DictConfig]] = []  # jobs of this process that others were at


def attempt(work: Work, config: DictConfig) -> None:
    """Do one job of a grid and note what became of it; an error fails this job alone."""
    hydra = HydraConfig.get()
    place = Path(hydra.sweep.dir) / f"{hydra.job.num:04d}.json"
    in_turn = str(hydra.launcher._target_).endswith(".BasicLauncher")  # one process: others first, this one later
    _do(work, config, place, wait=not in_turn)
    if in_turn and _read(place).state == "elsewhere":
        _put_off.append((place, HydraConfig.instance().cfg, config))


def _do(work: Work, config: DictConfig, place: Path, wait: bool) -> None:
    told = " ".join(HydraConfig.get().overrides.task)
    _write(place, Outcome(told, "cut off"))
    try:
        outcome = work(config, wait)
    except UnavailableError as error:
        log.warning("unavailable: %s", error)
        outcome = Outcome(told, "unavailable", str(error).splitlines())
    except ValueError as error:
        log.error("failed: %s", error)
        outcome = Outcome(told, "failed", str(error).splitlines())
    except Exception:
        log.exception("failed")
        outcome = Outcome(told, "failed", traceback.format_exc().splitlines()[-_LINES:])
    _write(place, outcome)


def _write(place: Path, outcome: Outcome) -> None:
    with replacing(place) as temporary:
        temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def _read(place: Path) -> Outcome:
    return Outcome(**json.loads(place.read_text(encoding="utf-8")))


class Summary(Callback):
    """Hydra's callback at the end of a grid: does what was put off, tells what became of all, sets the exit status."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        try:
            outcomes = finish(Path(config.hydra.sweep.dir))
            print(told(outcomes, Path(config.runs_dir)))
        except Exception:  # Hydra would make a warning of it, and the status 0
            log.exception("the grid's end cannot be told")
            sys.exit(1)
        if any(outcome.state in _BAD for outcome in outcomes):
            sys.exit(1)


def finish(folder: Path) -> list[Outcome]:
    """Do what this process put off; what became of every job of the grid."""
    from cellpatch.training import train

    for place, hydra, job in _put_off:
        HydraConfig.instance().cfg = hydra
        _do(train, job, place, wait=True)
    _put_off.clear()
    return [_read(file) for file in sorted(folder.glob("*.json"))]


def told(outcomes: Sequence[Outcome], runs_dir: Path) -> str:
    """Lines for people: how many jobs ended how, and of each that has no run what it said; of a dry run, each job."""
    counts = Counter(outcome.state for outcome in outcomes)
    planned = counts["to train"] + counts["to evaluate"] > 0
    lines = [one(outcome) for outcome in outcomes if planned or outcome.state in _TOLD]
    lines.append(f"{len(outcomes)} jobs: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}")
    if counts["to train"]:
        lines.append(_total(outcomes, counts["to train"], runs_dir))
    if counts["failed"] or counts["failed before"]:
        lines.append(f"stacks of runs that failed are in {runs_dir}/.failed; retry_failed=true tries them again")
    if counts["cut off"]:
        lines.append("the same command goes on where it was cut off")
    return "\n".join(lines)


def _total(outcomes: Sequence[Outcome], to_train: int, runs_dir: Path) -> str:
    kind = f"earlier runs of the same model, way of adapting and input in {runs_dir}"
    costs = [(each.seconds, each.mib) for each in outcomes if each.seconds is not None and each.mib is not None]
    if not costs:
        return f"how long they take cannot be told: there are no {kind}"
    seconds, mib = map(sum, zip(*costs, strict=True))
    total = f"at most {seconds / 3600:.2g} hours in one process and {mib:.3g} MiB"
    return f"{total} for {len(costs)} of {to_train} to train, by {kind}"


def one(outcome: Outcome) -> str:
    """Lines for people about one run."""
    cost = "" if outcome.seconds is None else f", at most {outcome.seconds / 60:.2g} min, {outcome.mib:.3g} MiB"
    return "\n    ".join([f"{outcome.state}: {outcome.run}{cost}", *outcome.said])
