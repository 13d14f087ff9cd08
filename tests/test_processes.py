"""Work shared by processes comes back in order, and never far ahead of who reads it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellpatch.runtime.parallel import available_workers, ordered_parallel_map, shared_map


def _note(task: tuple[Path, int]) -> tuple[int, int]:
    folder, number = task
    (folder / str(number)).touch()
    if number == 13:
        raise ValueError("thirteen")
    return number, os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_are_in_order(tmp_path: Path, workers: int) -> None:
    found = list(ordered_parallel_map(_note, ((tmp_path, i) for i in range(12)), workers))
    assert [number for number, _ in found] == list(range(12))
    assert ({pid for _, pid in found} == {os.getpid()}) == (workers < 2)


class _Counted:
    """Work that counts what it did."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, task: int) -> tuple[int, int, int]:
        self.done += 1
        time.sleep(0.05)
        if task < 0:
            raise ValueError("negative")
        return task, os.getpid(), self.done


def test_work_is_shared_in_order_and_each_process_keeps_its_own() -> None:
    waiting = iter(range(10**9))
    found = []
    for result in shared_map(_Counted(), waiting, 2):
        found.append(result)
        if len({pid for _, pid, _ in found}) == 2 and len(found) >= 20:
            break
    assert [task for task, _, _ in found] == list(range(len(found)))
    ours, theirs = ([n for _, pid, n in found if (pid == os.getpid()) == own] for own in (True, False))
    assert ours == list(range(1, len(ours) + 1)), "this process works while the other starts"
    assert theirs == list(range(1, len(theirs) + 1))
    assert [task for task, *_ in shared_map(_Counted(), range(3), 1)] == [0, 1, 2]


@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_of_either_process_comes_through(bad: int) -> None:
    tasks = [-1 if number == bad else number for number in range(6)]
    with pytest.raises(ValueError, match="negative"):
        list(shared_map(_Counted(), tasks, 2))


@pytest.mark.parametrize("ahead", [1, 5])
def test_an_error_comes_through_and_what_is_left_is_not_done(tmp_path: Path, ahead: int) -> None:
    results = ordered_parallel_map(_note, ((tmp_path, i) for i in range(13, 100)), 2, ahead)
    with pytest.raises(ValueError, match="thirteen"):
        next(results)
    assert len(list(tmp_path.iterdir())) <= 2 * ahead + 1


def test_there_is_a_processor() -> None:
    assert 1 <= available_workers() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("module", ["images.decoding", "images.crops"])
def test_what_workers_import_is_little(module: str) -> None:
    code = f"import cellpatch.data.{module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"pandas", "pyarrow", "torch"} & set(done.stdout.split())
