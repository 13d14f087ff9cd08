"""Batches of a long pass over cells, with a bar in a terminal and lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator

from rich.progress import track

log = logging.getLogger(__name__)
_LINE_S = 30  # between lines where there is no terminal


def batch_starts(cells: int, at_a_time: int, doing: str) -> Iterator[int]:
    """The first cell of each batch; `doing` says what is done with them."""
    starts = range(0, cells, at_a_time)
    if sys.stderr.isatty():
        yield from track(starts, description=doing)
        return
    told = time.monotonic()
    for start in starts:
        yield start
        if time.monotonic() - told > _LINE_S:
            log.info("%s: %d of %d cells", doing, min(start + at_a_time, cells), cells)
            told = time.monotonic()
