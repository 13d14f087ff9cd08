"""Work shared by processes, its results in order."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
MOST = 8  # processes; beyond these the one that writes is what one waits for


def available_workers() -> int:
    """Processes that this one may use, at most MOST."""
    return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def ordered_parallel_map(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, ahead: int = 2
) -> Iterator[Result]:
    """The results of tasks in their order, worked out ahead of the reader: at most `ahead` a worker wait in memory.

    0 and 1 workers work in this process, more in a pool of that many. They are spawned, not forked: the caller may
    hold threads (a data loader, a GPU context).
    """
    if workers <= 1:
        yield from map(work, tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(work, task))
                if len(pending) == ahead * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _end_with_parent() -> None:
    """Let this worker end when the process that started it does, killed or not."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
