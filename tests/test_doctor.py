"""`cellpatch doctor`: each check against a machine whose state is known."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import Invoke
from packaging.requirements import Requirement

from cellpatch.cli import doctor
from cellpatch.cli.checks import accounts, folders, machine, packages, weights
from cellpatch.cli.checks.finding import GIB
from cellpatch.config.schema import models

VERSIONS = {"numpy": "2.4.6", "torch": "2.15.0+cu132", "torchvision": "0.29.2", "onnx": "1.2"}
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"  # noqa: S105  # of nobody


def test_a_python_outside_the_bounds_fails() -> None:
    assert packages.check_python("3.11.7", "<3.14,>=3.11").state == "ok"
    found = packages.check_python("3.14.0", "<3.14,>=3.11")
    assert (found.state, found.found) == ("fail", "3.14.0, but cellpatch needs <3.14,>=3.11")


def test_a_library_outside_the_bounds_or_missing_fails() -> None:
    needed = [Requirement("numpy>=2"), Requirement("onnx>=1.18; extra == 'export'")]
    assert packages.check_libraries(needed, VERSIONS.get).state == "ok", "extras are not needed"
    found = packages.check_libraries([*needed, Requirement("numpy<2.1,>=2"), Requirement("zarr>=3")], VERSIONS.get)
    assert (found.state, found.found) == ("fail", "numpy 2.4.6 is not <2.1,>=2; zarr is not installed")
    assert found.advice == "pip install 'numpy<2.1,>=2' 'zarr>=3'"


def test_extras_are_installed_or_named_with_their_command() -> None:
    lines = ["numpy>=2", "numpy>=2; extra == 'a'", "onnx>=1.18; extra == 'b'", "x>=1; extra == 'dev'"]
    a, b = packages.check_extras(list(map(Requirement, lines)), ["a", "b", "dev"], VERSIONS.get)
    assert (a.name, a.state, a.found) == ("extra a", "ok", "numpy 2.4.6")
    assert (b.name, b.state, b.found) == ("extra b", "note", "onnx 1.2 is not >=1.18")
    assert b.advice == "pip install 'cellpatch[b]'"


@pytest.mark.parametrize(
    ("torch", "vision", "state"),
    [
        ("2.15.0+cu132", "0.29.2+cu132", "ok"),
        ("2.15.0", "0.29.2", "ok"),
        ("2.15.0+cu132", "0.29.2", "ok"),  # PyPI's torchvision has no local part, its torch has
        ("2.15.0+cpu", "0.29.2", "fail"),
        ("2.14.0", "0.29.2", "fail"),
        (None, "0.29.2", "fail"),
    ],
)
def test_torch_and_torchvision_are_a_pair(torch: str | None, vision: str, state: str) -> None:
    installed = {"torch": torch, "torchvision": vision}
    found = packages.check_torch_pair(installed.get, lambda _: ["torch==2.15.0", "numpy"])
    assert found.state == state


def test_every_library_of_this_environment_fits() -> None:
    found = {each.name: each for each in packages.check_packages()}
    assert [found[name].state for name in ("python", "libraries", "torchvision")] == ["ok"] * 3
    assert {"extra slides", "extra export", "extra optuna"} <= set(found)
    assert "extra dev" not in found


@pytest.mark.parametrize(
    ("threads", "cores", "quota", "load", "omp", "state", "words"),
    [
        (8, 8, None, 0.1, None, "ok", "8 threads on 8 cores, load 0.1, OMP_NUM_THREADS is not set"),
        (1, 2, None, 9.0, "1", "ok", "OMP_NUM_THREADS=1"),
        (8, 8, 2.0, 0.1, None, "note", "set OMP_NUM_THREADS=2"),
        (8, 8, 0.5, 0.1, None, "note", "set OMP_NUM_THREADS=1"),
        (2, 2, None, 4.0, None, "note", "OMP_NUM_THREADS=1 can be many times faster"),
        (4, 2, None, 0.0, "4", "note", "set OMP_NUM_THREADS=2"),
        (2, 2, None, 0.0, "two", "note", "OMP_NUM_THREADS is not set to a whole number"),
    ],
)
def test_threads_fit_the_cores(
    threads: int, cores: int, quota: float | None, load: float, omp: str | None, state: str, words: str
) -> None:
    found = machine.check_threads(threads, cores, quota, load, omp)
    assert found.state == state
    assert words in f"{found.found}; {found.advice}"


def test_the_lowest_limit_of_a_cgroup_and_its_parents_counts(tmp_path: Path) -> None:
    own = Path("slice/job")
    (tmp_path / own).mkdir(parents=True)
    assert machine.cgroup_cores(tmp_path, own) is None
    assert machine.cgroup_bytes_left(tmp_path, own) is None
    for folder, cpu, memory in ((tmp_path / own, "max 100000", "max"), (tmp_path / "slice", "150000 100000", "5000")):
        (folder / "cpu.max").write_text(cpu + "\n")
        (folder / "memory.max").write_text(memory + "\n")
        (folder / "memory.current").write_text("2000\n")
    assert machine.cgroup_cores(tmp_path, own) == 1.5
    assert machine.cgroup_bytes_left(tmp_path, own) == 3000


def test_little_memory_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   16777216 kB\n")
    available = machine.available_bytes(tmp_path / "meminfo")
    assert machine.check_memory(available, None).found == "16.0 GiB available"
    assert machine.check_memory(available, None).state == "ok"
    limited = machine.check_memory(available, GIB)
    assert (limited.state, limited.found) == ("note", "1.0 GiB available (by cgroup)")


def test_bf16_is_read_from_the_flags_of_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n\nprocessor\t: 1\n")
    assert machine.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx512_bf16", "amx_bf16"}
    assert machine.cpu_flags(tmp_path / "none") == set()


def test_a_torch_that_does_not_load_is_a_failure_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError
    found = machine.check_device()
    assert found.state == "fail"
    assert "torch cannot be imported" in found.found


def test_a_folder_is_tested_without_being_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    found = {each.name: each for each in folders.check_folders({"runs_dir": folder})}
    assert {found[name].state for name in ("runs_dir", "locks of runs_dir")} <= {"ok", "note"}
    assert list(tmp_path.iterdir()) == [], "nothing is left there"


def test_a_folder_that_nobody_can_write_fails() -> None:
    found = folders.check_room("runs_dir", Path("/proc/runs"), Path("/proc"))  # not even root can
    assert found.state == "fail"
    assert "/proc/runs cannot be written" in found.found


def test_a_file_in_place_of_a_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    [found] = [each for each in folders.check_folders({"runs_dir": tmp_path / "runs"}) if each.name == "runs_dir"]
    assert (found.state, found.found) == ("fail", f"{tmp_path / 'runs'} is a file, not a folder")


@pytest.mark.parametrize(("gib", "state"), [(0.1, "fail"), (2.0, "note"), (100.0, "ok")])
def test_room_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: float, state: str) -> None:
    usage = shutil._ntuple_diskusage(10**12, 0, int(gib * GIB))  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = folders.check_room("runs_dir", tmp_path, tmp_path)
    assert found.state == state
    assert f"{gib:.1f} GiB free" in found.found


def test_a_file_system_without_locks_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    assert folders.check_locks("locks", tmp_path).state == "ok"
    monkeypatch.setattr("fcntl.flock", refuse)
    found = folders.check_locks("locks", tmp_path)
    assert found.state == "fail"
    assert "has no file locks (flock)" in found.found
    assert list(tmp_path.iterdir()) == []


def test_locks_that_others_do_not_see_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre's localflock between two machines: each process gets the lock."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    found = folders.check_locks("locks", tmp_path)
    assert (found.state, found.found) == ("fail", f"{tmp_path}: a second process does not see a lock of the first")


def test_sources_of_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "uni.bin").write_bytes(b"x")
    found = {each.name.removeprefix("weights of "): each for each in weights.check_weights(tmp_path)}
    assert set(found) == {name for name, pretrained in models().items() if pretrained} - {"colour"}
    assert (found["uni"].state, found["uni"].found) == ("ok", str(tmp_path / "uni.bin"))
    assert found["efficientnet_lite0"].found.endswith("efficientnet-lite0-57934424.pth")
    assert found["virchow2"].state == "note"
    assert "gated" in found["virchow2"].found
    assert "downloads" in found["virchow2"].advice
    assert "downloads" not in found["ctranspath"].advice, "no hub has it"
    (tmp_path / "uni.pth").write_bytes(b"x")
    twice = {each.name: each for each in weights.check_weights(tmp_path)}["weights of uni"]
    assert (twice.state, twice.found.split(",")[0]) == ("note", "weights_dir must hold one file of uni")


def test_a_file_in_the_hubs_cache_is_found_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--MahmoodLab--UNI" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "models--MahmoodLab--UNI" / "refs").mkdir()
    (tmp_path / "models--MahmoodLab--UNI" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("cellpatch.models.weights.Weights._download", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    found = {each.name: each for each in weights.check_weights(None)}["weights of uni"]
    assert (found.state, found.found) == ("ok", str(snapshot / "pytorch_model.bin"))


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(401)

        def log_message(self, *_: Any) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()


def test_a_hub_that_answers_or_not_is_no_failure(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert accounts.ask(server)(), "an error of the server is an answer"
    assert not accounts.ask("http://127.0.0.1:9")()
    assert accounts.check_hub(server, True, lambda: True).state == "ok"
    without = accounts.check_hub(server, False, lambda: True)
    assert (without.state, without.found) == ("note", "127.0.0.1 answers, without a token")
    assert accounts.check_hub(server, True, lambda: False).state == "note"
    assert (
        accounts.check_hub(f"https://me:{TOKEN}@hub.example", True, None).found == "not asked (offline), with a token"
    )
    assert TOKEN not in str(accounts.check_hub(f"https://me:{TOKEN}@hub.example", True, lambda: True))


def test_a_login_at_wandb_is_seen_and_not_shown(tmp_path: Path) -> None:
    none = accounts.check_wandb({}, tmp_path)
    assert (none.state, none.found) == ("ok", "offline by default (logger.wandb.offline); no login")
    online = accounts.check_wandb({"WANDB_MODE": "online"}, tmp_path)
    assert (online.state, online.found, online.advice) == ("note", "online by WANDB_MODE; no login", "wandb login")
    by_variable = accounts.check_wandb({"WANDB_API_KEY": TOKEN, "WANDB_MODE": TOKEN}, tmp_path)
    assert by_variable.found == "offline by default (logger.wandb.offline); logged in (WANDB_API_KEY)"
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {TOKEN}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert accounts.check_wandb({}, tmp_path).found.endswith("logged in (.netrc)")
    assert accounts.check_wandb({"WANDB_BASE_URL": "https://wandb.example"}, tmp_path).found.endswith("no login")
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai {TOKEN}\n")
    broken = accounts.check_wandb({}, tmp_path)
    assert broken.found.endswith("the file .netrc cannot be read")
    assert TOKEN not in str(broken)


def _doctor(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("cellpatch")), "doctor", "--offline", *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_the_command_shows_no_secret_and_changes_nothing(tmp_path: Path) -> None:
    secrets = dict.fromkeys(("HF_TOKEN", "WANDB_API_KEY", "WANDB_MODE", "OMP_NUM_THREADS", "MY_SECRET"), TOKEN)
    secrets["HTTPS_PROXY"] = f"http://me:{TOKEN}@proxy.example:1"
    done = _doctor(tmp_path, "--json", **secrets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["hub"]["found"] == "not asked (offline), with a token"
    assert found["threads"]["state"] == "note"
    assert found["W&B"]["found"].endswith("logged in (WANDB_API_KEY)")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_sets_the_status_and_a_pipe_gets_a_line_each(tmp_path: Path, invoke: Invoke) -> None:
    done = invoke(lambda words: doctor.main(words), ["--offline", "--runs-dir", "/proc/runs"], tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("fail  runs_dir") and "; do: free room" in line for line in lines)
    assert all(line.startswith(("ok ", "note ", "fail ")) for line in lines[:-1])
    assert lines[-1].endswith(" 1 failed")
