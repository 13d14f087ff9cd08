"""Commands that end on a signal, sent to the process alone or to its group as a terminal does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT

TRAIN = ["train", "model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "flag_limit=4"]
TRAIN += ["logger=none", "trainer.accelerator=cpu", "trainer.max_epochs=1000", "adapt.patience=1000", "data=folder"]
HINT = "interrupted: the same command skips what is done and starts an unfinished training again; "


def _interrupt(
    folder: Path, arguments: list[str], after: str | float, number: signal.Signals, group: bool, times: int = 1
) -> tuple[int, str]:
    """Status and output of a command that gets a signal after a line with `after`, or so many seconds."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cellpatch", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    before = []
    if isinstance(after, str):
        for line in process.stdout:
            before.append(line)
            if after in line:
                break
    else:
        time.sleep(after)
    for _ in range(times):
        os.killpg(process.pid, number) if group else process.send_signal(number)
        time.sleep(0.2)
    rest, _ = process.communicate(timeout=120)
    patience = time.monotonic() + 30
    while left := _living(process.pid):
        assert time.monotonic() < patience, f"children are left: {left}"
        time.sleep(0.1)
    output = "".join(before) + rest
    assert "Traceback" not in output
    assert not list(folder.rglob(".*.tmp"))
    return process.returncode, output


def _living(group: int) -> list[str]:
    """Processes of a group that have not ended; one that nobody has waited for has."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = file.read_text().rpartition(")")
            state, _, own_group = rest.split()[:3]
            if int(own_group) == group and state != "Z":
                found.append(name)
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "group", "times", "status"),
    [(signal.SIGINT, True, 2, 130), (signal.SIGTERM, False, 1, 143)],
    ids=["ctrl_c_twice", "terminated"],
)
@pytest.mark.parametrize("mode", [[], ["-m", "seed=0,1"], ["trainer.devices=2"]], ids=["run", "grid", "two_devices"])
def test_training(
    mode: list[str],
    number: signal.Signals,
    group: bool,
    times: int,
    status: int,
    tmp_path: Path,
    folder_of_squares: Callable[..., Path],
) -> None:
    verb, *settings = TRAIN
    arguments = [verb, *mode, *settings, f"data.root={folder_of_squares(20, 5)}"]
    ended, output = _interrupt(tmp_path, arguments, "epoch 3/1000", number, group, times)
    assert ended == status
    assert output.splitlines()[-1].startswith(HINT)
    assert output.count("epoch 3/1000") == 1, "no other job starts"
    assert ("2 jobs: 2 interrupted" in output) == ("-m" in mode)
    assert "distributed_backend" not in output, "Lightning's notices"


@pytest.mark.long
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_prepare(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """Cells are rendered by several processes."""
    ended, output = _interrupt(tmp_path, ["prepare", "data=synthetic"], 4.0, number, group=True, times=2)
    assert (ended, output.splitlines()[-1]) == (status, "interrupted")
    assert not list((tmp_path / "stores").glob("synthetic*"))


@pytest.mark.parametrize("verb", ["figures", "verify", "predict", "latency"])
def test_a_verb_that_has_just_started(verb: str, tmp_path: Path) -> None:
    """Also while its libraries are imported."""
    code = (
        "import sys, time; from cellpatch.cli import main; main.verb_function = lambda verb: lambda: time.sleep(60); "
    )
    code += "sys.stdout.write('x\\n'); sys.stdout.flush(); main.main([sys.argv[1]])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, verb], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    process.terminate()
    assert process.communicate(timeout=30)[1] == b"interrupted\n"
    assert process.returncode == 143
