"""Work shared by processes comes back in order, and never far ahead of who reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellpatch.runtime.parallel import available_workers, ordered_parallel_map


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
