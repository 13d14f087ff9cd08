"""What a killed training of a run left, and what becomes of it."""

import glob
import logging
from dataclasses import dataclass
from pathlib import Path

from cellpatch.runs.locks import RunFiles, run_lock_path
from cellpatch.runtime.atomic_io import is_locked

log = logging.getLogger(__name__)
_TO_RESUME = (
    "; with trainer.resume=true a training keeps one after each validation, and the same command continues from it"
)


@dataclass(frozen=True)
class Unfinished:
    """A training that ended before its run was stored; `checkpoint` is None if it kept none."""

    run: str
    checkpoint: Path | None


def find_unfinished(files: RunFiles) -> Unfinished | None:
    """What a killed training of a run left; None without a trace, and while a process is at work on the run."""
    if is_locked(run_lock_path(files.runs_dir, files.identities[0])):
        return None
    checkpoint = files.checkpoint if files.checkpoint.is_file() else None
    leftovers = files.runs_dir.glob(f".{glob.escape(files.run)}.*.tmp")
    return Unfinished(files.run, checkpoint) if checkpoint is not None or any(leftovers) else None


def report_unfinished(found: Unfinished, resume: bool) -> None:
    """Log what was found and whether training continues from it; `resume` is trainer.resume."""
    if found.checkpoint is None:
        where = "it kept no checkpoint and starts again"
        log.warning("found an unfinished training of %s: %s%s", found.run, where, "" if resume else _TO_RESUME)
        return
    update = _updates_done(found.checkpoint)
    if resume:
        log.info("found an unfinished training of %s: it continues after update %s", found.run, update)
        return
    log.warning(
        "found an unfinished training of %s, at update %s: it starts again; stop it and give the same command with "
        "trainer.resume=true to continue from there",
        found.run,
        update,
    )


def _updates_done(checkpoint: Path) -> str:
    import torch  # seconds, which commands that only read runs do without

    from cellpatch.runtime.errors import CHECKPOINT_READ_ERRORS

    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return str(stored["global_step"])
    except CHECKPOINT_READ_ERRORS:  # training reports what is wrong with it
        return "unknown (its checkpoint cannot be read)"
