"""Batches of a long pass over cells, with a progress bar in a terminal and log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator

from rich.progress import track

log = logging.getLogger(__name__)
_LOG_INTERVAL_S = 30  # where there is no terminal


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
