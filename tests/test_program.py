"""How a command ends as a process: all that Python does at its end is done, but objects are not taken apart."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

START = """
import atexit, sys
from cellpatch.cli.program import run_program

class Whole:
    def __del__(self):
        print("taken apart", flush=True)

def command():
    global kept
    kept = Whole()
"""


def _run(folder: Path, body: str, before: str = "", stdout: int = subprocess.PIPE) -> tuple[int, list[str]]:
    """Status and lines of a process whose command has this body."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    code = f"{before}{START}{lines}\nrun_program(command)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout or "").splitlines()


def test_a_command_that_succeeds_ends_after_all_other_work(tmp_path: Path) -> None:
    body = """
import concurrent.futures, ctypes, logging.handlers, multiprocessing, tempfile, threading, time, weakref
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
concurrent.futures.ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.4), print("pool")))
multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True).start()
global folder, handler
folder = tempfile.TemporaryDirectory(dir=".")
weakref.finalize(folder, print, "finalized")
handler = logging.handlers.MemoryHandler(99, target=logging.FileHandler("log"))
handler.emit(logging.makeLogRecord({"msg": "logged", "levelno": 20}))
ctypes.CDLL(None).printf(b"from C\\n")
"""
    status, lines = _run(tmp_path, body)
    assert status == 0
    assert lines == ["thread", "pool", "finalized", "at exit", "from C"]
    assert (tmp_path / "log").read_text() == "logged\n"
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("sys.exit(3)", 3),
        ("sys.exit('message')", 1),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_a_command_that_fails_ends_as_python_does(tmp_path: Path, body: str, status: int) -> None:
    expected = [] if status < 0 else ["taken apart"]
    assert _run(tmp_path, body) == (status, expected)


def test_what_came_first_is_not_left_out(tmp_path: Path) -> None:
    before = "import atexit; atexit.register(print, 'coverage')\n"
    assert _run(tmp_path, "pass", before) == (0, ["coverage", "taken apart"])


def test_a_stream_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        status, _ = _run(tmp_path, "print('lost')", stdout=full.fileno())
    assert status == 120, "Python's own"


@pytest.mark.parametrize("command", [["-m", "cellpatch", "--version"], ["train.py", "--help"]])
def test_a_command_is_such_a_process(command: list[str]) -> None:
    """Its output is whole, and its status 0."""
    counted = "import atexit, runpy, sys; sys.argv = sys.argv[1:]; from cellpatch.cli import program\n"
    counted += "ran = []; program.run_program = lambda command: ran.append(command) or command()\n"
    counted += (
        "program.main() if sys.argv[0] == '-m' and sys.argv.pop(1) else runpy.run_path('train.py', None, '__main__')\n"
    )
    counted += "print(len(ran))"
    done = subprocess.run(
        [sys.executable, "-c", counted, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    plain = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == plain.stdout + "1\n"
