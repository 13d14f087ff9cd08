"""Work shared by processes, its results in order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
_MOST_WAITING = 1000  # results in memory, while the processes of `shared_map` start
MAX_WORKERS = 8  # with more, the process that writes the results is the bottleneck


def available_workers() -> int:
    """Processes that this one may use, at most MAX_WORKERS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def ordered_parallel_map(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, ahead: int = 2
) -> Generator[Result, None, None]:
    """Yield the results of tasks in order; at most `ahead` results a worker wait in memory for the consumer.

    joblib's Parallel(return_as="generator") lacks this bound: with one result of 500 consumed, all 500 were computed
    (joblib 1.5.3, 2 workers, pre_dispatch=2 or its default).

    0 and 1 workers compute in this process, more in a pool of that many. They are spawned, not forked: the caller may
    have threads (a data loader, a GPU context). An error of a task comes through; pending tasks are cancelled.
    """
    if workers <= 1:
        yield from map(work, tasks)
        return
    with _spawn(workers) as pool, _pending_futures() as pending:
        for task in tasks:
            pending.append(_submit(pool, work, task))
            if len(pending) == ahead * workers:
                yield pending.popleft().result()
        yield from _drain(pending)


def shared_map(work: Callable[[Task], Result], tasks: Iterable[Task], processes: int) -> Iterator[Result]:
    """Yield the results of tasks in order, computed by this process and `processes` - 1 others.

    This one computes while the others start. Each of them gets `work` once, and keeps what it leaves in its attributes.
    An error of a task comes through; pending tasks are cancelled.
    """
    if processes <= 1:
        yield from map(work, tasks)
        return
    with _spawn(processes - 1, work) as pool, _pending_futures() as pending:
        for task in tasks:
            if sum(not future.done() for future in pending) < 2 * (processes - 1):
                pending.append(_submit(pool, _work_on, task))
            else:
                pending.append(Future())
                pending[-1].set_result(work(task))
            while pending and (pending[0].done() or len(pending) > _MOST_WAITING):
                yield pending.popleft().result()
        yield from _drain(pending)


def lane_map(
    work: Callable[[Task], Result], lanes: Sequence[Sequence[Task]], ahead: int, in_turns: bool
) -> Iterator[tuple[int, Result]]:
    """Yield results with the number of their lane, each lane's in order; a lane is a process, and its tasks neighbours.

    So what one task leaves in the process's memory serves the next.

    At most `ahead` results a lane wait in memory. Lanes work beside the consumer; with `in_turns` they rest while it
    works and the other way round, which is faster where both need all cores. A single lane is computed in this process.
    An error of a task comes through; pending tasks are cancelled.
    """
    if len(lanes) <= 1:
        yield from ((number, work(task)) for number, lane in enumerate(lanes) for task in lane)
        return
    waiting = [deque(lane) for lane in lanes]
    with ExitStack() as stack:
        pools = [stack.enter_context(_spawn(1)) for _ in lanes]
        pending = [stack.enter_context(_pending_futures()) for _ in lanes]  # cancelled before the pools wait for them
        while any(waiting) or any(pending):
            for pool, tasks, started in zip(pools, waiting, pending, strict=True):
                while tasks and len(started) < ahead:
                    started.append(_submit(pool, work, tasks.popleft()))
            if in_turns:
                wait(chain.from_iterable(pending))
            for number, started in enumerate(pending):
                for _ in range(len(started) if in_turns else min(1, len(started))):
                    yield number, started.popleft().result()


@contextmanager
def _pending_futures() -> Iterator[deque["Future[Any]"]]:
    """A queue of futures; those that are left in it at the end, after an error too, are cancelled."""
    pending: deque[Future[Any]] = deque()
    try:
        yield pending
    finally:
        for future in pending:
            future.cancel()


def _drain(pending: deque["Future[Any]"]) -> Iterator[Any]:
    while pending:
        yield pending.popleft().result()


def _spawn(workers: int, work: Callable[[Any], Any] | None = None) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=partial(_start_worker, work))


def _submit(pool: ProcessPoolExecutor, work: Callable[[Task], Result], task: Task) -> "Future[Result]":
    """Submit a task; the processes that this starts do not get the terminal's Ctrl-C: this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        return pool.submit(work, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(work: Callable[[Any], Any] | None) -> None:
    _end_with_parent()
    if work is not None:
        _given.append(work)


def _work_on(task: Any) -> Any:
    return _given[0](task)


_given: list[Callable[[Any], Any]] = []  # in a process of `shared_map`: its work


def _end_with_parent() -> None:
    """End this worker when the process that started it ends, killed or not."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
