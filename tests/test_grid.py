"""What a grid's jobs leave when something dies: outcomes, locks, what is waiting, who tries again."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, paired_sweeper
from omegaconf import OmegaConf

from cellpatch.runs import locks
from cellpatch.runs.outcome import Outcome
from cellpatch.runtime import atomic_io
from cellpatch.sweeps import jobs, status
from cellpatch.sweeps.jobs import describe_position
from cellpatch.sweeps.summary import format_summary

JOBS = [["seed=0"], ["seed=1"], ["seed=2"]]


def test_jobs_without_a_word_are_cut_off(tmp_path: Path) -> None:
    with jobs.register_jobs(tmp_path, JOBS):
        jobs._write(tmp_path / "0001.json", Outcome("cnn-1", "trained", []))
    (tmp_path / ".77.0002.json").write_text("")  # what a kill leaves of a file that was being replaced
    assert jobs.run_deferred_jobs(tmp_path) == [
        Outcome("seed=0", "interrupted"),
        Outcome("cnn-1", "trained", []),
        Outcome("seed=2", "interrupted"),
    ]


def test_an_outcome_that_finds_no_room_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with jobs.register_jobs(tmp_path, JOBS[:1]):
        monkeypatch.setattr(jobs, "atomic_write", full)
        jobs._write(tmp_path / "0000.json", Outcome("cnn-1", "failed", ["no room"]))
    assert jobs.run_deferred_jobs(tmp_path) == [Outcome("cnn-1", "failed", ["no room"])]


def test_a_summary_states_an_error_once_with_its_jobs(tmp_path: Path) -> None:
    message = ["cells.csv: lacks column ['x']"]
    failed = [Outcome(f"model=cnn seed={n}", "failed", message, traceback=f"{n}.log") for n in range(3)]
    other = Outcome("model=nin seed=0", "failed", ["another"], traceback="3.log")
    trained = Outcome("cnn-1", "trained")
    summary = format_summary([*failed, other, trained], tmp_path)
    assert summary.splitlines() == [
        "failed: 3 jobs with the same error: model=cnn",
        "    cells.csv: lacks column ['x']",
        *(f"    #{n} seed={n}: its traceback: {n}.log" for n in range(3)),
        "failed: model=nin seed=0",
        "    another",
        "    its traceback: 3.log",
        "5 jobs: 4 failed, 1 trained",
    ]
    logged = {tuple(message)}
    assert summary == format_summary([*failed, other, trained], tmp_path, logged), "hours may lie between"
    alone = format_summary(failed, tmp_path, logged)
    assert "lacks column" not in alone
    assert "its error is printed above, at job #0" in alone


def test_models_without_weights_are_reported_once_for_all_their_jobs(tmp_path: Path) -> None:
    missing = [Outcome(f"model=uni seed={n}", "unavailable", ["no weights of uni"]) for n in range(2)]
    summary = format_summary([*missing, Outcome("cnn-1", "exists")], tmp_path)
    assert summary.count("no weights of uni") == 1
    assert "unavailable: 2 jobs with the same error: model=uni" in summary


def test_only_runs_that_failed_in_training_are_retried_on_request(tmp_path: Path) -> None:
    failed = [Outcome("seed=0", "failed", ["wrong path"])]
    assert "retry_failed" not in format_summary(failed, tmp_path), "nothing is kept of it, nothing is skipped"
    (tmp_path / ".failed").mkdir()
    (tmp_path / ".failed" / "cnn-1.log").write_text("Traceback")
    assert "retry_failed=true" in format_summary(failed, tmp_path)


def test_waiting_are_jobs_of_a_grid_that_somebody_is_at(tmp_path: Path) -> None:
    folder = tmp_path / ".hydra" / "now"
    with jobs.register_jobs(folder, JOBS):
        jobs._write(folder / "0000.json", Outcome("cnn-1", "interrupted"))
        assert jobs.pending_jobs(tmp_path) == ["seed=1", "seed=2"]
        shown = status.run_states(tmp_path)
        assert shown["run"].tolist() == ["seed=1", "seed=2"]
        assert set(shown["state"]) == {"waiting"}
    assert jobs.pending_jobs(tmp_path) == []


def test_a_launcher_that_dies_leaves_a_summary(tmp_path: Path) -> None:
    class Dying:
        def launch(self, batch: Any, initial_job_idx: int) -> Any:
            assert not vars(self), (
                "submitit's launcher sends itself to its jobs, where nothing of ours can be unpickled"
            )
            jobs._write(tmp_path / "0000.json", Outcome("cnn-1", "trained"))
            raise RuntimeError("a worker was killed")

    class Context:
        config_loader = None

    sweeper: Any = paired_sweeper()()
    sweeper.launcher, sweeper.hydra_context = Dying(), Context()
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "runs_dir": str(tmp_path)})
    sweeper.validate_batch_is_legal = lambda batch: None
    assert sweeper.sweep(["seed=0,1"]) == [[]]
    assert [outcome.state for outcome in jobs.run_deferred_jobs(tmp_path)] == ["trained", "interrupted"]


def test_a_lock_is_seen_without_taking_it(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    assert not atomic_io.is_locked(file)
    with atomic_io.file_lock(file):
        file.chmod(0o400)
        assert atomic_io.is_locked(file)
    assert not atomic_io.is_locked(file)


def _claim(runs_dir: Path, known: float | None) -> Any:
    return locks.claim_run(_files(runs_dir), True, known)


def _files(runs_dir: Path) -> locks.RunFiles:
    return locks.RunFiles(runs_dir, "cnn", ["0123456789ab"])


def test_who_waited_leaves_what_failed_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first"), _claim(tmp_path, None):
        raise ValueError("first")
    known = _files(tmp_path).failed_at()
    assert known
    with pytest.raises(locks.ConcurrentFailureError), _claim(tmp_path, None):
        pass
    (tmp_path / ".progress").mkdir()
    for name in ("cnn-0123456789ab.ckpt", ".cnn-0123456789ab.ckpt"):
        (tmp_path / ".progress" / name).write_text("of an earlier try")
    with _claim(tmp_path, known) as (folder, exists):
        assert not exists
        (folder / "record.json").write_text("{}")
    assert _files(tmp_path).failed_at() is None
    assert not list((tmp_path / ".progress").iterdir())
    with _claim(tmp_path, known) as (_, exists):
        assert exists


def test_a_folder_without_a_record_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "cnn-0123456789ab").mkdir()
    with (
        pytest.raises(ValueError, match="has no record.json: it is not a finished run; move it away"),
        _claim(tmp_path, None),
    ):
        raise AssertionError("nothing is to be trained")


def test_workers_end_with_who_started_them(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from cellpatch.runtime.parallel import ordered_parallel_map\n"
        "def sleep(place):\n"
        "    Path(place).write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(ordered_parallel_map(sleep, [sys.argv[1] + '/1', sys.argv[1] + '/2'], 2))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    places, until = [tmp_path / "1", tmp_path / "2"], time.monotonic() + 60
    while not all(place.exists() and place.read_text() for place in places):
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = [int(place.read_text()) for place in places]
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and "(Z)" not in _state(pid) for pid in workers):
        assert time.monotonic() < until, "they outlived it"
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return f"({Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]})"
    except FileNotFoundError:
        return "(Z)"


def test_a_grid_states_where_it_is_and_the_time_left() -> None:
    assert describe_position(0, 12, []) == "job 1 of 12"
    assert describe_position(3, 12, [100.0, 140.0]) == (
        "job 4 of 12, at most 18 min left, as those trained so far took"
    )
