"""Which runs figures, tables and the page are about."""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from simulated import FAULTS, simulated, with_config

from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.selection import Selection
from cellpatch.cli.selection import add_options, selection_of
from cellpatch.optics.conditions import CLEAN

RUNS = simulated(limits=(256, 1024), seeds=(0, 1))


def _parsed(*words: str) -> Selection:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return selection_of(parser.parse_args(words))


def test_without_options_all_runs_are_chosen() -> None:
    assert _parsed().choose(RUNS) == RUNS


def test_each_option_keeps_its_values() -> None:
    chosen = _parsed("--models", "cnn,dinov2_s", "--adapt", "scratch, linear_probe", "--limit", "256").choose(RUNS)
    assert {(run.coordinates.model, run.coordinates.adapt) for run in chosen} == {
        ("cnn", "scratch"),
        ("dinov2_s", "linear_probe"),
    }
    assert {run.coordinates.flag_limit for run in chosen} == {256}


def test_a_sigma_keeps_clean_cells_beside_it() -> None:
    [run, *_] = _parsed("--sigma", "0.8").choose(RUNS)
    kept = {(at.kind, at.sigma) for at in run.confusions if not at.is_fault}
    assert kept == {("none", 0.0), ("pre", 0.8), ("post", 0.8)}
    assert {at for at in run.confusions if at.is_fault} == {*FAULTS}, "a sigma is of blur"
    assert run.confusions[CLEAN] is RUNS[0].confusions[CLEAN]
    with pytest.raises(ValueError, match=r"--sigma must be of 0.4, 0.8, 1.6, 3.2, but got 5"):
        _parsed("--sigma", "0.8,5").choose(RUNS)
    sharp = [replace(run, confusions={CLEAN: run.confusions[CLEAN]}) for run in RUNS]
    mixed = _parsed("--sigma", "0.8").choose([RUNS[0], sharp[1]])
    assert [len(each.confusions) for each in mixed] == [3 + len(FAULTS), 1], (
        "a run without blur stays with its clean cells"
    )
    with pytest.raises(ValueError, match="--sigma finds no run that was evaluated under blur, but got 0.8"):
        _parsed("--sigma", "0.8").choose(sharp)


def test_settings_of_the_config_are_compared_as_they_are_stored() -> None:
    runs = [
        with_config(run, "adapt", lr=0.01 if run.coordinates.seed else 1e-3, decay=run.coordinates.seed == 0)
        for run in RUNS
    ]
    assert {run.coordinates.seed for run in _parsed("--where", "adapt.lr=1e-2").choose(runs)} == {1}
    assert {run.coordinates.seed for run in _parsed("--where", "adapt.decay=true").choose(runs)} == {0}
    both = _parsed("--where", "adapt.lr=0.01", "--where", "adapt.lr=0.001").choose(runs)
    assert len(both) == len(runs)
    assert _parsed("--where", "optics.train_kind=[pre,post]", "--where", "optics.train=null").choose(runs) == runs
    with pytest.raises(ValueError, match=r"--where adapt.lr: must be of 0.001, 0.01, but got 0.5"):
        _parsed("--where", "adapt.lr=0.5").choose(runs)
    with pytest.raises(ValueError, match=r"--where adapt.nothing: no run has this setting"):
        _parsed("--where", "adapt.nothing=1").choose(runs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--models", "cnn,unknown"],
            "--models: must be of cnn, customvit, dinov2_s, efficientnet_lite0, but got unknown",
        ),
        (["--limit", "512"], "--limit: must be of 1024, 256, but got 512"),
        (["--limit", "many"], "--limit must be numbers, separated by commas, but got many"),
        (["--where", "adapt.lr"], "--where must be KEY=VALUE, but got adapt.lr"),
    ],
)
def test_what_no_run_has_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _parsed(*words).choose(RUNS)


@pytest.mark.long
def test_a_figure_and_all_figures_take_the_options(tmp_path: Path) -> None:
    pack(RUNS, tmp_path / "runs.parquet")
    figure3 = ROOT / "experiments" / "figures" / "figure3.py"
    make_all = ROOT / "experiments" / "report" / "make_all.py"
    for script in ([figure3], [make_all, "figures"]):
        names = ["figure3"] if script[0] == make_all else []
        command = [sys.executable, *script, "runs.parquet", *names, "--models", "cnn,customvit"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False
        )
        assert done.returncode == 0, done.stderr
        text = (tmp_path / "figures" / "figure3.txt").read_text()
        assert "dinov2_s" not in text


def test_a_script_that_fails_leaves_the_others_to_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import make_all
    import report

    pack(RUNS, tmp_path / "runs.parquet")
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    (tmp_path / "mine" / "tables").mkdir()
    figures = ROOT / "experiments" / "figures"
    (tmp_path / "mine" / "figures" / "figure3.py").write_text((figures / "figure3.py").read_text())
    (tmp_path / "mine" / "figures" / "mine_fails.py").write_text("def draw(data, groups):\n    return 1 / 0\n")
    (tmp_path / "mine" / "figures" / "mine_is_broken.py").write_text("import nowhere\n")
    monkeypatch.setattr(make_all, "EXPERIMENTS", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_all.py", "figures", "runs.parquet"])
    with pytest.raises(SystemExit, match="0"):
        make_all.main()
    assert (tmp_path / "figures" / "figure3.png").exists()
    report.build(RUNS, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "mine_fails: the script failed: ZeroDivisionError: division by zero (mine_fails.py, line 2)" in page
    assert "mine_is_broken: the script failed: ModuleNotFoundError: No module named &#39;nowhere&#39;" in page
