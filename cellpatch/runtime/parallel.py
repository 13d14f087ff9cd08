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
MAX_WORKERS = 8  # with more, the process that writes the results is the bottleneck


def available_workers() -> int:
    """Processes that this one may use, at most MAX_WORKERS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def ordered_parallel_map(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, ahead: int = 2
) -> Iterator[Result]:
    """Yield the results of tasks in order; at most `ahead` results a worker wait in memory for the consumer.

    joblib's Parallel(return_as="generator") lacks this bound: with one result of 500 consumed, all 500 were computed
    (joblib 1.5.3, 2 workers, pre_dispatch=2 or its default).

    0 and 1 workers compute in this process, more in a pool of that many. They are spawned, not forked: the caller may
    have threads (a data loader, a GPU context). An error of a task comes through; pending tasks are cancelled.
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
    """End this worker when the process that started it ends, killed or not."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
