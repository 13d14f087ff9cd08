"""Bad runs among good ones: each is named with its reason, and the others are shown, checked or packed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from fuzz_records import fuzz
from stored import read_record, replace_record

from cellpatch import api
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.cli import pack as pack_command
from cellpatch.cli import runs, verify, watch
from cellpatch.cli.each_run import for_each_run
from cellpatch.data.store.reader import read_manifest
from cellpatch.models.weights import _in_package
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.atomic_io import atomic_write, create_once, sha256_of, temporary_directory

WRITTEN = ROOT / "tests" / "fixtures" / "runs_0_3_0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good runs."""
    return Path(shutil.copytree(WRITTEN, tmp_path / "runs"))


def _run(folder: Path, name: str) -> Path:
    [run] = folder.glob(f"{name}-*")
    return run


def _restate(run: Path) -> None:
    """Give a run's files their present checksums, as somebody would who means it."""
    record = read_record(run)
    replace_record(run, record | {"files": {name: sha256_of(run / name) for name in record["files"]}})


def _without_classes(run: Path) -> None:
    record = read_record(run)
    del record["classes"]
    replace_record(run, record)


def _nested(run: Path) -> None:
    (run / "record.json").write_text('{"config": ' + "[" * 500 + "]" * 500 + "}")


def _too_deep_for_python(run: Path) -> None:
    (run / "record.json").write_text("[" * 200_000)


def _component_of_its_choice(run: Path) -> None:
    record = read_record(run)
    costs = {"_target_": "pathlib.Path.touch", "_args_": [str(run.parent.parent / "ran")], "classes": 1}
    record["config"]["data"]["costs"] = costs
    replace_record(run, record)


def _lock_elsewhere(run: Path) -> None:
    replace_record(run, read_record(run) | {"identity": "x/../../../ran"})


def _broken_weights(run: Path) -> None:
    (run / "weights.safetensors").write_bytes(b"\xff" * 64)
    _restate(run)


def _no_rows(run: Path) -> None:
    table = pq.read_table(run / "predictions.parquet")
    pq.write_table(table.slice(0, 0), run / "predictions.parquet")
    _restate(run)


def _no_record(run: Path) -> None:
    (run / "record.json").unlink()


def _record_is_a_pipe(run: Path) -> None:
    (run / "record.json").unlink()
    os.mkfifo(run / "record.json")


BAD: dict[Callable[[Path], None], str] = {
    _without_classes: "classes: field required",
    _nested: "nested more than 64 levels deep",
    _too_deep_for_python: "cannot be read",
    _component_of_its_choice: "config.data.costs.classes: input should be a valid list",
    _lock_elsewhere: "identity must be 12 hexadecimal digits, but got 'x/../../../ran'",
    _no_record: "record.json cannot be read (there is no such file)",
    _record_is_a_pipe: "record.json cannot be read (there is no such file)",
}
BAD_FILES: dict[Callable[[Path], None], str] = {
    _broken_weights: "weights.safetensors is not a readable safetensors file",
    _no_rows: "predictions.parquet: it has no rows",
}


@pytest.mark.parametrize("damage", [*BAD, *BAD_FILES], ids=lambda damage: damage.__name__)
def test_a_bad_run_is_named_and_the_others_are_checked(
    folder: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = _run(folder, "cnn-scratch-folder-4-s0")
    damage(bad)
    with pytest.raises(SystemExit, match="1"):
        verify.main([str(folder)])
    *problems, count = capsys.readouterr().out.splitlines()
    assert count == f"4 runs in {folder}, 1 problem found"
    assert len(problems) == 1
    assert bad.name in problems[0]
    assert (BAD | BAD_FILES)[damage] in problems[0]
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_the_table_and_the_listing_go_on(
    folder: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bad = _run(folder, "cnn-scratch-folder-4-s0")
    damage(bad)
    for command in (runs.main, watch.main):
        with pytest.raises(SystemExit, match="1"):
            command([str(folder)])
        shown = capsys.readouterr()
        assert "1 run cannot be read" in shown.err
        assert BAD[damage] in shown.err
        for good in folder.iterdir():
            assert good == bad or good.name in shown.out


def test_figures_tables_and_reports_list_all_bad_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(folder.glob("cnn*"))
    _without_classes(first)
    _no_rows(second)
    for read in (lambda: read_results(folder), lambda: api.read_runs(folder)):
        with pytest.raises(ValueError, match=r"cannot be read; move them elsewhere.*:\n") as caught:
            read()
        assert f"{first}: record.json: classes: field required" in str(caught.value)
    with pytest.raises(ValueError, match="2 runs cannot be read") as caught:
        read_results(folder)
    assert f"{second / 'predictions.parquet'}: it has no rows" in str(caught.value)
    monkeypatch.setattr("sys.argv", ["pack", str(folder), str(folder.parent / "packed.parquet")])
    with pytest.raises(SystemExit, match="2 runs cannot be read"):
        pack_command.main()
    assert not (folder.parent / "packed.parquet").exists()


def test_rows_of_a_packed_file_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = folder.parent / "packed.parquet"
    pack(read_results(folder), packed)
    table = pq.read_table(packed)
    rows = table.to_pylist()
    rows[0]["counts"][0]["predicted"] = 30
    rows[1]["record"] = json.dumps({"sha256": ""})
    rows[2]["counts"][0]["n"] = None
    pq.write_table(table.from_pylist(rows, table.schema), packed)
    with pytest.raises(SystemExit, match="1"):
        runs.main([str(packed)])
    shown = capsys.readouterr()
    assert f"1 runs in {packed}" in shown.out
    assert shown.err.splitlines()[-1] == "3 runs cannot be read"
    for row, reason in enumerate(("3 classes, each once", "is not as it was written", "counts must be >= 1")):
        assert f"{packed}: row {row}: the record of" in shown.err
        assert reason in shown.err


def test_no_runs_are_no_success(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in (verify.main, runs.main):
        with pytest.raises(SystemExit, match="empty has no finished run"):
            command([str(tmp_path / "empty")])


def test_a_folder_that_may_not_be_read_is_no_success(open_folder: Path) -> None:
    folder = open_folder
    folder.chmod(0o300)
    for verb in ("verify", "runs", "watch"):
        ended = _as_nobody(verb, folder)
        assert ended.returncode == 1, ended
        assert f"{folder} cannot be read (Permission denied); it belongs to" in ended.stderr
        assert "Traceback" not in ended.stderr
    folder.chmod(0o700)


def test_a_run_that_may_not_be_read_is_named(open_folder: Path) -> None:
    folder = open_folder
    run = _run(folder, "cnn-scratch-folder-4-s0")
    run.chmod(0o000)
    ended = _as_nobody("runs", folder)
    run.chmod(0o700)
    assert ended.returncode == 1
    assert "1 run cannot be read" in ended.stderr
    assert f"{run}: record.json cannot be read (Permission denied)" in ended.stderr
    assert "3 runs in" in ended.stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Four good runs where every user can read them: pytest closes its own folders to others."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        copy = Path(shutil.copytree(WRITTEN, Path(place) / "runs"))
        for each in (copy, *copy.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)
        yield copy


_AS_NOBODY = """
import contextlib, io, os, pwd, sys
from cellpatch.cli import runs, verify, watch
main = {"runs": runs, "verify": verify, "watch": watch}[sys.argv[1]].main
with contextlib.redirect_stdout(io.StringIO()):
    main([sys.argv[2]])  # imports everything: the interpreter's files may lie where only root reads
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(pwd.getpwnam("nobody").pw_gid)
    os.setuid(pwd.getpwnam("nobody").pw_uid)
main([sys.argv[3]])
"""


def _as_nobody(verb: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A command of a user who is not root, on a folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _AS_NOBODY, verb, str(WRITTEN), str(folder)]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


def test_an_error_of_one_run_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def work(run: Path) -> bool:
        done.append(run)
        if run.name == "bad":
            raise ValueError("two\nlines")
        return True

    with pytest.raises(SystemExit, match="1"):
        for_each_run([Path("bad"), Path("good")], work)
    assert done == [Path("bad"), Path("good")]
    assert capsys.readouterr().err == "error: bad: two lines\n"


def test_a_record_imports_no_package_of_its_choice() -> None:
    assert "antigravity" not in sys.modules
    assert _in_package("antigravity.x/weights.pth") is None
    assert "antigravity" not in sys.modules


def test_a_folder_with_an_equals_sign_is_no_column(folder: Path) -> None:
    moved = folder.parent / "adapt.lr=0.1" / "runs"
    shutil.copytree(folder, moved)
    for run in moved.iterdir():
        assert "adapt.lr" not in next(iter(StoredRun.open(run).predictions.values())).rows


_KILLED = """
import os, sys, time
from pathlib import Path
from cellpatch.runtime.atomic_io import atomic_write, create_once, temporary_directory
place = Path(sys.argv[1])
def fill(folder):
    (folder / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
with temporary_directory(place, "export") as folder, atomic_write(place / "a.csv") as temporary:
    (folder / "big").write_text("half")
    temporary.write_text("half")
    create_once(place / "store", fill)
"""


def test_what_a_killed_process_left_is_removed_and_a_live_one_s_is_not(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    live = {each.name for each in tmp_path.iterdir() if not each.name.endswith(".lock")}
    assert len(live) == 3, live

    def use() -> set[str]:
        with temporary_directory(tmp_path, "export"), atomic_write(tmp_path / "a.csv") as temporary:
            temporary.write_text("whole")
        create_once(tmp_path / "other store", lambda folder: (folder / "whole").write_text("whole"))
        shutil.rmtree(tmp_path / "other store")
        return {each.name for each in tmp_path.iterdir() if not each.name.endswith(".lock")}

    assert use() == {*live, "a.csv"}
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert use() == {"a.csv"}
    assert (tmp_path / "a.csv").read_text() == "whole"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda fields: [], "format version must be 3, but got None"),
        (lambda fields: fields | {"cells": "many"}, "is not a manifest"),
        (lambda fields: {key: value for key, value in fields.items() if key != "geometry"}, "is not a manifest"),
        (lambda fields: fields | {"files": fields["files"] | {"../other": ""}}, "files must be names in its folder"),
    ],
)
def test_a_damaged_manifest_is_named(
    store_of: Callable[..., Path], damage: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    file = store_of() / "manifest.json"
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=rf"manifest.json.*{reason}"):
        read_manifest(file.parent)


def test_a_temporary_file_has_the_rights_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with atomic_write(tmp_path / "a.csv") as temporary:
            temporary.write_text("a")
    finally:
        os.umask(before)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o664


@pytest.mark.long
def test_damaged_runs_end_commands_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert fuzz(tmp_path, runs=150, seed=1, report=lambda _: None) == []
