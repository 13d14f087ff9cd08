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
    """What became of a job's run and what there is to say of it; of a dry run, seconds and MiB if they can be told."""

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
    if in_turn and _read(place)["state"] == "elsewhere":
        _put_off.append((place, HydraConfig.instance().cfg, config))


def _do(work: Work, config: DictConfig, place: Path, wait: bool) -> None:
    told = " ".join(HydraConfig.get().overrides.task)
    _write(place, {"job": told, "state": "cut off"})
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
    _write(place, {"job": told} | asdict(outcome))


def _write(place: Path, outcome: dict[str, Any]) -> None:
    with replacing(place) as temporary:
        temporary.write_text(json.dumps(outcome), encoding="utf-8")


def _read(place: Path) -> dict[str, Any]:
    return json.loads(place.read_text(encoding="utf-8"))


class Summary(Callback):
    """Hydra's callback at the end of a grid: does what was put off, tells what became of all, sets the exit status."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        try:
            outcomes = finish(Path(config.hydra.sweep.dir))
            print(told(outcomes, Path(config.runs_dir)))
        except Exception:  # Hydra would make a warning of it, and the status 0
            log.exception("the grid's end cannot be told")
            sys.exit(1)
        if any(outcome["state"] in _BAD for outcome in outcomes):
            sys.exit(1)


def finish(folder: Path) -> list[dict[str, Any]]:
    """Do what this process put off; what became of every job of the grid."""
    from cellpatch.training import train

    for place, hydra, job in _put_off:
        HydraConfig.instance().cfg = hydra
        _do(train, job, place, wait=True)
    _put_off.clear()
    return [_read(file) for file in sorted(folder.glob("*.json"))]


def told(outcomes: list[dict[str, Any]], runs_dir: Path) -> str:
    """Lines for people: how many jobs ended how, and of each that has no run what it said; of a dry run, each job."""
    counts = Counter(outcome["state"] for outcome in outcomes)
    dry = counts["to train"] + counts["to evaluate"] > 0
    lines = []
    for outcome in outcomes:
        if dry or outcome["state"] in _TOLD:
            lines.append(one(Outcome(**{"run": outcome["job"]} | {k: v for k, v in outcome.items() if k != "job"})))
    lines.append(f"{len(outcomes)} jobs: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}")
    if dry:
        known = [outcome for outcome in outcomes if outcome.get("seconds") is not None]
        hours, mib = sum(outcome["seconds"] for outcome in known) / 3600, sum(outcome["mib"] for outcome in known)
        kind = "of the same model, way of adapting and input"
        if known:
            cost = (
                f"at most {hours:.2g} hours in one process and {mib:.3g} MiB for {len(known)} of {counts['to train']}"
            )
            lines.append(f"{cost} to train, by earlier runs {kind} in {runs_dir}")
        else:
            lines.append(f"how long they take cannot be told: {runs_dir} has no earlier runs {kind}")
    if counts["failed before"]:
        lines.append(
            f"what failed before is tried again with retry_failed=true; why it failed is in {runs_dir}/.failed"
        )
    if counts["cut off"]:
        lines.append("the same command goes on where it was cut off")
    return "\n".join(lines)


def one(outcome: Outcome) -> str:
    """Lines for people about one run."""
    cost = "" if outcome.seconds is None else f", at most {outcome.seconds / 60:.2g} min, {outcome.mib:.3g} MiB"
    return "\n    ".join([f"{outcome.state}: {outcome.run}{cost}", *outcome.said])
