"""Several sources in one command: a job each, by any launcher; finished ones are skipped, a failure is one job's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SQUARE_CENTRES, Invoke, image_of_squares, run_of_squares
from test_deploy import SMALL

from cellpatch.cli import predict as command
from cellpatch.cli import predict_slides
from cellpatch.cli.launchers import check_launcher_settings, check_launchers
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.inference import jobs as jobs_module
from cellpatch.inference.jobs import _BEGUN, PredictionJob, _write_report, do_job_once, outputs
from cellpatch.inference.predicted_files import FORMATS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of_squares(tmp_path_factory.mktemp("run"), *SMALL)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two patients, each a folder with an annotation file; the images lie elsewhere."""
    rng = np.random.default_rng(4)
    for patient in ("patient (1)", "patient=2"):
        image = tmp_path / "slides" / f"{patient}.png"
        image.parent.mkdir(exist_ok=True)
        image_of_squares(rng).save(image)
        points = [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [x, y]},
                "properties": {"objectType": "detection"},
            }
            for x, y in SQUARE_CENTRES
        ]
        file = tmp_path / "cohort" / patient / f"{patient}.geojson"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"type": "FeatureCollection", "features": points}))
    return tmp_path


def _arguments(run: Path, cohort: Path, *more: str) -> list[str]:
    sources = sorted(map(str, (cohort / "cohort").rglob("*.geojson")))
    fixed = ["--um-per-px", "0.5", "--slide", "slides", "--out-dir", "predicted"]
    return [os.path.relpath(run, cohort), *sources, *fixed, *more]


def _process(run: Path, cohort: Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "cellpatch.predict", *_arguments(run, cohort)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, cwd=cohort, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_each_source_is_a_job_and_done_once(run: Path, cohort: Path, invoke: Invoke) -> None:
    done = _process(run, cohort)
    assert done.returncode == 0, done.stderr
    assert "2 sources: 2 predicted" in done.stdout, done.stdout
    outs = sorted((cohort / "predicted").rglob("*.geojson"))
    assert [out.relative_to(cohort / "predicted").as_posix() for out in outs] == [
        f"{patient}/{patient}.geojson" for patient in ("patient (1)", "patient=2")
    ]
    classes = [
        feature["properties"]["classification"]["name"] for feature in json.loads(outs[0].read_text())["features"]
    ]
    summary = pd.read_csv(cohort / "predicted" / "summary.csv")
    assert list(summary["cells"]) == list(summary["classified"]) == [6, 6]
    assert {name: summary[f"n_{name}"][0] for name in set(classes)} == {
        name: classes.count(name) for name in set(classes)
    }
    before = {out: out.stat().st_mtime_ns for out in outs}
    annotation = cohort / "cohort" / "patient=2" / "patient=2.geojson"
    document = json.loads(annotation.read_text())
    annotation.write_text(json.dumps(document | {"features": document["features"][:4]}))
    again = invoke(command.main, _arguments(run, cohort), cohort)
    assert "2 sources: 1 exists, 1 predicted" in again.stdout, again.stdout + again.stderr
    assert [out.stat().st_mtime_ns == before[out] for out in outs] == [True, False]
    assert list(pd.read_csv(cohort / "predicted" / "summary.csv")["cells"]) == [6, 4]
    outs[0].unlink()
    assert "1 exists, 1 predicted" in invoke(command.main, _arguments(run, cohort), cohort).stdout


def test_a_source_fails_alone(run: Path, cohort: Path, invoke: Invoke) -> None:
    (cohort / "slides" / "patient=2.png").write_bytes(b"no image")
    done = invoke(command.main, _arguments(run, cohort, "--format", ".csv"), cohort)
    assert done.returncode == 1
    assert "2 sources: 1 failed, 1 predicted" in done.stdout, done.stdout + done.stderr
    summary = pd.read_csv(cohort / "predicted" / "summary.csv")
    assert list(summary["state"]) == ["predicted", "failed"]
    assert "patient=2.png" in summary["notes"][1]
    assert len(pd.read_csv(cohort / "predicted" / "patient (1)" / "patient (1).csv")) == 6


def test_what_a_launcher_did_not_do_is_not_called_done(
    run: Path, cohort: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "2 sources: 2 predicted" in invoke(command.main, _arguments(run, cohort), cohort).stdout

    def die() -> None:
        sys.exit(1)

    with monkeypatch.context() as patched:
        patched.setattr(predict_slides, "_main", die)
        done = invoke(command.main, _arguments(run, cohort), cohort)
    assert done.returncode == 1
    assert "2 sources: 2 interrupted" in done.stdout
    assert "2 sources: 2 exists" in invoke(command.main, _arguments(run, cohort), cohort).stdout


@pytest.mark.parametrize("change", ["column", "image"])
def test_whatever_an_output_holds_makes_it_new(run: Path, cohort: Path, change: str) -> None:
    table = pd.DataFrame(SQUARE_CENTRES, columns=["x", "y"]).assign(note="before", image="slides/patient (1).png")
    table.to_csv(cohort / "t.csv", index=False)
    job = PredictionJob(run=str(run), source=str(cohort / "t.csv"), out=str(cohort / "o" / "t.csv"), um_per_px=0.5)
    assert [do_job_once(job, "first").state, do_job_once(job, "second").state] == ["predicted", "exists"]
    if change == "column":
        table.assign(note="after!").to_csv(cohort / "t.csv", index=False)
    else:
        os.utime(cohort / "slides" / "patient (1).png", (1, 1))
    assert do_job_once(job, "third").state == "predicted"
    assert set(pd.read_csv(job.out)["note"]) == {"after!" if change == "column" else "before"}


def test_an_output_is_replaced_only_if_an_earlier_command_wrote_it(run: Path, cohort: Path) -> None:
    table, out = cohort / "t.csv", cohort / "o" / "t.csv"
    points = pd.DataFrame(SQUARE_CENTRES, columns=["x", "y"]).assign(image="slides/patient (1).png")
    points.to_csv(table, index=False)
    out.parent.mkdir()
    out.write_text("mine")
    job = PredictionJob(run=str(run), source=str(table), out=str(out), um_per_px=0.5)
    for name in ("first", "second"):  # a failure leaves a report: the output is still mine
        report = do_job_once(job, name)
        assert report.state == "failed"
        assert "exists and is not replaced: choose another output, or replace it with --overwrite" in report.messages[0]
        assert out.read_text() == "mine"
    assert do_job_once(replace(job, overwrite=True), "third").state == "predicted"
    points.iloc[:4].to_csv(table, index=False)
    assert do_job_once(job, "fourth").state == "predicted", "its own of another source"
    out.write_text("corrected by hand")
    points.iloc[:3].to_csv(table, index=False)
    assert do_job_once(job, "fifth").state == "failed"
    assert out.read_text() == "corrected by hand"


def test_a_job_that_was_killed_while_it_wrote_is_done_again(run: Path, cohort: Path) -> None:
    pd.DataFrame(SQUARE_CENTRES, columns=["x", "y"]).assign(image="slides/patient (1).png").to_csv(cohort / "t.csv")
    job = PredictionJob(run=str(run), source=str(cohort / "t.csv"), out=str(cohort / "o.csv"), um_per_px=0.5)
    _write_report(job, _BEGUN)
    Path(job.out).write_text("")
    assert do_job_once(job, "next").state == "predicted"


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_prediction_of_one_source_overwrites_nothing_unasked(
    run: Path, cohort: Path, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame(SQUARE_CENTRES, columns=["x", "y"]).assign(image="slides/patient (1).png").to_csv(cohort / "t.csv")
    monkeypatch.chdir(cohort)
    Path("predictions.csv").write_text("mine")
    line = [str(run), "t.csv", "--um-per-px", "0.5", *more]
    if more:
        command.main(line)
        assert len(pd.read_csv("predictions.csv")) == 6
        return
    with pytest.raises(
        SystemExit, match=r"error: predictions.csv exists and is not replaced: choose another output, or "
    ):
        command.main(line)
    assert Path("predictions.csv").read_text() == "mine"


def test_any_error_is_of_one_source(run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = PredictionJob(run=str(run), source=str(cohort / "none\udcff.csv"), out=str(cohort / "o.csv"))
    assert do_job_once(job, "first").state == "failed"

    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(jobs_module, "predict", full)
    image = cohort / "slides" / "patient=2.png"
    report = do_job_once(PredictionJob(run=str(run), source=str(image), out=str(cohort / "p.csv")), "second")
    assert (report.state, report.messages) == ("failed", ["RuntimeError: CUDA out of memory"])


@pytest.mark.long
def test_a_killed_command_is_finished_by_the_same_one(run: Path, cohort: Path, invoke: Invoke) -> None:
    source = cohort / "cohort" / "patient (1)" / "patient (1).geojson"
    for i in range(40):
        shutil.copy(source, source.with_name(f"patient (1)-{i}.geojson"))
        shutil.copy(cohort / "slides" / "patient (1).png", cohort / "slides" / f"patient (1)-{i}.png")
    sources = sorted(map(str, (cohort / "cohort").rglob("*.geojson")))
    fixed = ["--um-per-px", "0.5", "--slide", "slides", "--out-dir", "predicted"]
    line = [sys.executable, "-m", "cellpatch.predict", str(run), *sources, *fixed]
    process = subprocess.Popen(line, cwd=cohort, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 120
    while len(list((cohort / "predicted").rglob("*.geojson"))) < 3:
        assert time.monotonic() < until, "nothing was predicted"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = invoke(command.main, _arguments(run, cohort), cohort)
    assert done.returncode == 0, done.stderr
    summary = pd.read_csv(cohort / "predicted" / "summary.csv")
    assert len(summary) == 42
    assert 2 <= (summary["state"] == "exists").sum() < 42  # of three outputs, one may have had no report yet
    assert (summary["classified"] == 6).all()


def test_an_output_has_one_source_and_replaces_none(tmp_path: Path) -> None:
    a, b, c = tmp_path / "x" / "a.geojson", tmp_path / "y" / "a.geojson", tmp_path / "x" / "a.json"
    folder = tmp_path / "out"
    assert outputs([a, b], folder, None) == [folder / "x" / "a.geojson", folder / "y" / "a.geojson"]
    assert outputs([a], folder, ".csv") == [folder / "a.csv"]
    assert outputs([tmp_path / "t.xml"], folder, None) == [folder / "t.csv"]
    with pytest.raises(ValueError, match="both be written"):
        outputs([a, c], folder, None)
    with pytest.raises(ValueError, match="would replace the source"):
        outputs([a, b], tmp_path, None)
    with pytest.raises(ValueError, match="the file of the summary"):
        outputs([tmp_path / "summary.csv"], folder, None)
    assert outputs([tmp_path / "a.json.gz"], folder, None) == [folder / "a.geojson.gz"]
    assert outputs([tmp_path / "a.json.gz"], folder, ".csv") == [folder / "a.csv"]
    assert {".csv", ".geojson", ".h5ad"} < set(FORMATS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv", "b.csv"], "several sources, .* need --out-dir"),
        (["a.csv", "--launcher", "joblib"], "need --out-dir"),
        (["a.csv", "--set", "n_jobs=2"], "need --out-dir"),
        (["a.csv", "b.csv", "--out-dir", "o", "--slide", "a.svs"], "must be the folder of their images, but got a.svs"),
        (["a.csv", "--out-dir", "o", "--out", "p.csv"], "need --out-dir DIR, and no --out"),
        (["a.csv", "--out", "a.csv"], "would replace the source"),
        (["a.csv", "--out-dir", "o", "--um-per-px", "0"], "--um-per-px must be finite"),
        (["a.csv", "--out-dir", "o", "--set", "n_jobs=2"], "--set must be KEY=VALUE, of basic's keys"),
    ],
)
def test_commands_that_cannot_be_meant_are_refused(
    run: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        command.main([str(run), *arguments])
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellpatch.cli.launchers.find_spec", lambda package: None)
    for name, extra in (("joblib", "joblib"), ("submitit_slurm", "slurm"), ("ray", "ray")):
        with pytest.raises(ValueError, match=rf"pip install 'cellpatch\[{extra}\]'"):
            check_launchers(["-m", f"hydra/launcher={name}"])
    check_launchers(["-m", "hydra/launcher=basic", "model=cnn"])
    check_launchers(["-m", "hydra/launcher=submitit_local"])  # another plugin's, or the user's


@pytest.mark.parametrize("setting", ["n_jobs", "n_jobs=1,2", "no_such_key=1", "n_jobs=(", "_target_=os.system"])
def test_a_launcher_s_setting_is_one_value_of_a_known_key(setting: str) -> None:
    check_launcher_settings("joblib", ["n_jobs=2", "verbose=0"])
    check_launcher_settings("submitit_slurm", ["setup=[a,b]", "additional_parameters.mail-type=FAIL"])
    check_launcher_settings("submitit_slurm", prepare_overrides(["partition=gpu (a100)", "setup=[a,b]", "name=Fall#1"]))
    with pytest.raises(ValueError, match="--set must be KEY=VALUE, of joblib's keys"):
        check_launcher_settings("joblib", prepare_overrides([setting]))


def test_folders_of_any_name_are_written_to(run: Path, cohort: Path, invoke: Invoke) -> None:
    done = invoke(command.main, _arguments(run, cohort, "--out-dir", "o (1), a=b [c] ${d} é"), cohort)
    assert "2 sources: 2 predicted" in done.stdout, done.stdout + done.stderr
    assert (cohort / "o (1), a=b [c] ${d} é" / "summary.csv").exists()
