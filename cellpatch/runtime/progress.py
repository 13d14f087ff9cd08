"""Batches of a long pass over cells, with a progress bar in a terminal and log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator

from rich.progress import track

log = logging.getLogger(__name__)
_LOG_INTERVAL_S = 30  # where there is no terminal
_PROGRESS_INTERVAL_S = 5


def format_seconds(seconds: float) -> str:
    """A duration in words: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def batch_starts(cells: int, batch_size: int, description: str) -> Iterator[int]:
    """The index of each batch's first cell; `description` stands beside the progress."""
    starts = range(0, cells, batch_size)
    if sys.stderr.isatty():
        yield from track(starts, description=description)
        return
    last_logged = time.monotonic()
    for start in starts:
        yield start
        if time.monotonic() - last_logged > _LOG_INTERVAL_S:
            log.info("%s: %d of %d cells", description, min(start + batch_size, cells), cells)
            last_logged = time.monotonic()


class Progress:
    """Cells per second and time left of a pass whose work comes from elsewhere, as log lines."""

    def __init__(self, description: str, total: int, done: int = 0) -> None:
        self._description, self._total, self._first = description, total, done
        self._started = self._shown = time.monotonic()

    def show(self, done: int) -> None:
        """Log how far it is, at most once every few seconds."""
        now = time.monotonic()
        if now - self._shown < _PROGRESS_INTERVAL_S:
            return
        self._shown = now
        per_second = (done - self._first) / (now - self._started)
        left = format_seconds((self._total - done) / per_second) if per_second else "unknown time"
        log.info("%s %d of %d cells, %.0f cells/s, %s left", self._description, done, self._total, per_second, left)
