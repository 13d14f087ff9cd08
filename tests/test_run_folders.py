"""Commands that take runs: run folders, folders of runs, and what lies beside them."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from stored import read_record, replace_record

from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.cli import diff, export, features, latency, predict, runs
from cellpatch.cli.pack import main as pack_command
from cellpatch.runs.differences import differences, format_differences
from cellpatch.runs.folders import named_runs, require_one_run, require_runs
from cellpatch.runs.record import parse_record
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.verify import verify

WRITTEN = ROOT / "tests" / "fixtures" / "runs_0_3_0"


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Four runs, and what lies beside runs: a hidden folder, a lock, a file, another folder, an unfinished run."""
    shutil.copytree(WRITTEN, tmp_path / "runs")
    folder = tmp_path / "runs"
    (folder / ".hydra" / "2026").mkdir(parents=True)
    (folder / ".0123456789ab.lock").touch()
    (folder / "notes.txt").touch()
    (folder / "old").mkdir()
    shutil.copytree(next(WRITTEN.glob("cnn*")), folder / ".cnn-1.77.tmp")
    return folder


def _all(runs_dir: Path) -> list[Path]:
    return sorted(runs_dir.iterdir())  # with hidden ones: more than a shell's runs/*


def test_what_is_no_run_is_skipped_by_name(runs_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = named_runs(_all(runs_dir))
    assert [run.name for run in found] == sorted(run.name for run in WRITTEN.iterdir())
    skipped = {record.getMessage() for record in caplog.records}
    assert skipped == {
        f"skipped {runs_dir / name}: not a run, and no runs in it"
        for name in (".hydra", ".0123456789ab.lock", "notes.txt", "old", ".cnn-1.77.tmp")
    }
    assert named_runs([runs_dir]) == found
    assert named_runs([runs_dir, found[0]]) == found, "each once"


def test_a_path_without_anything_is_a_mistake(runs_dir: Path) -> None:
    with pytest.raises(ValueError, match="nowhere must be a run or a folder of runs, but nothing is there"):
        named_runs([runs_dir, runs_dir / "nowhere"])
    with pytest.raises(ValueError, match=r"old has no finished run: train some first"):
        require_runs([runs_dir / "old"])
    with pytest.raises(ValueError, match=rf"has no finished run; {runs_dir} has some"):
        require_runs([runs_dir.parent])
    with pytest.raises(ValueError, match=r"runs holds 4 runs and one is needed: name one of .*cnn-.*, \.\.\."):
        require_one_run(runs_dir)
    first, *others = named_runs([runs_dir])
    for other in others:
        shutil.rmtree(other)
    assert require_one_run(runs_dir) == require_one_run(first) == first


def test_commands_of_several_runs_go_on_after_what_they_cannot_read(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def refuse(run: Path, *_: object) -> object:
        asked.append(run.name)
        raise ValueError(f"{run.name} has no card")

    monkeypatch.setattr(features, "feature_card", refuse)
    monkeypatch.setattr(latency, "_measure_apart", refuse)
    monkeypatch.setattr(export, "export", refuse)
    for command in (features.main, latency.main, export.main):
        for paths in ([runs_dir], _all(runs_dir)):
            with pytest.raises(SystemExit, match="1"):
                command([str(path) for path in paths])
            assert sorted(asked) == sorted(run.name for run in WRITTEN.iterdir())
            assert capsys.readouterr().err.count("has no card") == 4
            asked.clear()


def test_a_file_is_of_one_export(runs_dir: Path) -> None:
    first, second, *_ = named_runs([runs_dir])
    assert export._files([first, Path("out.onnx")]) == {first: Path("out.onnx")}
    assert export._files([first, second]) == {run: Path(f"{run.name}.onnx") for run in (first, second)}
    with pytest.raises(ValueError, match=r"out.onnx takes one run, but 4 are named: leave it out"):
        export._files([runs_dir, Path("out.onnx")])


def test_an_export_replaces_nothing_unasked(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(run: Path, file: Path, *_: object) -> str:
        file.write_text("new")
        return "written"

    monkeypatch.setattr(export, "export", write)
    run, file = str(named_runs([runs_dir])[0]), tmp_path / "out.onnx"
    export.main([run, str(file)])
    file.write_text("mine")
    with pytest.raises(SystemExit, match="1"):
        export.main([run, str(file)])
    assert f"{file} exists and is not replaced" in capsys.readouterr().err
    assert file.read_text() == "mine"
    export.main([run, str(file), "--overwrite"])
    assert file.read_text() == "new"


def test_a_prediction_asks_for_one_run(runs_dir: Path) -> None:
    with pytest.raises(SystemExit, match="runs holds 4 runs and one is needed: name one of"):
        predict.main([str(runs_dir), "cells"])


def test_tables_and_packs_take_runs(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = named_runs([runs_dir])
    runs.main([str(path) for path in _all(runs_dir)])
    assert "4 runs in 9 paths" in capsys.readouterr().out
    runs.main([str(first)])
    assert f"1 runs in {first}" in capsys.readouterr().out
    packed = runs_dir.parent / "runs.parquet"
    monkeypatch.setattr("sys.argv", ["results", *map(str, _all(runs_dir)), str(packed)])
    pack_command()
    assert [run.run for run in read_results(packed)] == [run.run for run in read_results(*_all(runs_dir))]
    pack(read_results(first), packed)
    assert {run.folder for run in read_results(first, packed)} == {first, None}


def test_a_run_by_itself_is_verified(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = named_runs([runs_dir])
    assert verify(first) == []
    (first / "weights.safetensors").unlink()
    with pytest.raises(SystemExit, match="1"):
        runs.main(["--verify", str(first)])
    assert f"1 runs in {first}, 1 problem found" in capsys.readouterr().out
    shown = [each for each in sorted(runs_dir.iterdir()) if not each.name.startswith(".")]
    assert len(verify(*shown)) == len(verify(runs_dir)) == 1


def test_diff_names_what_two_runs_state_otherwise(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sorted(runs_dir.glob("cnn*"))
    diff.main([str(first), str(second)])
    assert capsys.readouterr().out.splitlines() == [
        f"run: {first.name} | {second.name}",
        "seed: 0 | 1" if first.name.startswith("cnn-scratch-folder-4-s0") else "seed: 1 | 0",
        "the runs do not differ in data, code",
    ]
    with pytest.raises(SystemExit, match=r"two runs are compared, but got 4 \(.*, \.\.\.\): name two run folders"):
        diff.main([str(runs_dir)])


def test_differences_of_settings_data_and_code(runs_dir: Path) -> None:
    run, _ = sorted(runs_dir.glob("cnn*"))
    stored = read_record(run)
    record = StoredRun.open(run).record
    assert format_differences(differences(record, record)) == ["the runs do not differ in settings, data, code"]
    other = stored | {"cellpatch": "0.5.0", "git": {"commit": "f" * 40, "dirty": True}}
    other["data"] = stored["data"] | {"fingerprint": "abc", "intake": {"left_out": {"too near": 3}, "joined": {}}}
    other["counts"] = stored["counts"] | {"train": dict.fromkeys(stored["counts"]["train"], 1)}
    found = {each.key: str(each) for each in differences(record, parse_record(other, "other"))}
    assert found["data fingerprint"] == f"data fingerprint: {record.data.fingerprint} | abc"
    assert found["intake.left_out.too near"] == "intake.left_out.too near: not stated | 3"
    name, count = next(iter(record.counts["train"].items()))
    assert found[f"cells.train.{name}"] == f"cells.train.{name}: {count} | 1"
    assert found["cellpatch version"] == "cellpatch version: 0.3.0 | 0.5.0"
    assert found["git commit"].endswith(" | ffffffffffff with changes")


def test_a_setting_that_an_earlier_version_did_not_state_is_no_difference(runs_dir: Path) -> None:
    run, _ = sorted(runs_dir.glob("cnn*"))
    record = StoredRun.open(run).record
    config = record.settings.config
    for mixup, expected in ((0.0, []), (0.2, ["adapt.mixup: not stated | 0.2"])):
        adapt = {**config["adapt"], "mixup": mixup}  # type: ignore[dict-item]
        replace_record(run, read_record(run) | {"training_code": None, "config": config | {"adapt": adapt}})
        assert [str(each) for each in differences(record, StoredRun.open(run).record)] == expected
