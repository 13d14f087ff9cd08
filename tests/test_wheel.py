"""What is installed works without the checkout: from an empty folder to figures, report, predictions and ONNX."""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.wheel

TINY = ["data.cells=900", "data.specimens=10", "model.backbone.input_px=16", "adapt.updates=30", "adapt.validations=3"]
TINY += ["trainer.accelerator=cpu", "logger=none", "adapt.min_epochs=0"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT], check=True)
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> "Installed":
    """A new environment with the wheel alone; what it depends on is read from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    lenders = [path for path in sys.path if path.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lenders))  # their own .pth files, the editable install, are not read
    pip = [folder / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, wheel], check=True, cwd=folder)
    (folder / "empty").mkdir()
    return Installed(folder / "env" / "bin", folder / "empty")


class Installed:
    """The commands of an environment, given in a folder."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder

    def __call__(self, command: str, *arguments: str) -> str:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        result = subprocess.run(
            [self.binaries / command, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"},
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"{command} {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result.stdout


def test_the_wheel_brings_conf_and_experiments(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cellpatch", "hydra_plugins"}
    for folder in ("conf", "experiments"):
        wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        wanted = {name for name in wanted if "__pycache__" not in name}
        assert {f"cellpatch/{name}" for name in wanted} == {n for n in names if n.startswith(f"cellpatch/{folder}/")}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_from_an_empty_folder_to_a_report(installed: Installed) -> None:
    where = installed("python", "-c", "import cellpatch; print(cellpatch.__file__)")
    assert str(installed.binaries.parent) in where, "the wheel's files, not the checkout's"
    assert "cellpatch 0." in installed("cellpatch", "--version")
    installed("cellpatch", "train", "-m", "model=cnn,customvit_s", "flag_limit=8,16", "model.recipe.lr=0.01", *TINY)
    assert "4 runs in runs, 0 problems found" in installed("cellpatch", "verify")
    assert "4 runs in runs" in installed("cellpatch", "runs", "runs", "--csv", "table.csv")
    assert "figures/figure3.png" in installed("cellpatch", "figures", "runs", "figure3", "figure_classes")
    assert "tables/models-synthetic.md" in installed("cellpatch", "tables", "runs", "models_table")
    installed("cellpatch", "report", "runs")
    assert "synthetic: no result on them is a result about patients" in (installed.folder / "report.html").read_text(
        encoding="utf-8"
    )
    run = next((installed.folder / "runs").glob("cnn-scratch-synthetic-16-*"))
    installed("cellpatch", "export", str(run), "cnn.onnx")
    _save_crops(installed, run)
    installed("cellpatch", "predict", str(run), "crops", "--out", "predictions.csv")
    assert len((installed.folder / "predictions.csv").read_text().splitlines()) == 4
    files = {path.name for path in installed.folder.iterdir() if not path.name.startswith("report-")}
    assert files == {
        *(
            "cnn.onnx",
            "crops",
            "figures",
            "predictions.csv",
            "report.html",
            "report.md",
            "report.png",
            "runs",
            "stores",
            "table.csv",
            "tables",
        )
    }


def test_the_quickstart_of_readme_runs_as_it_stands(installed: Installed) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Quickstart")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line]
    assert [command[1] for command in commands] == ["example", "train", "runs", "figures", "report"]
    folder = installed.folder.parent / "quickstart"
    folder.mkdir()
    outputs = [Installed(installed.binaries, folder)(*command) for command in commands]
    printed = next(line for line in outputs[0].splitlines() if line.startswith("cellpatch train "))
    assert shlex.split(printed) == commands[1]
    assert "1 runs in runs" in outputs[2]
    assert "SYNTHETIC" in outputs[0]
    assert (folder / "figures" / "figure3.png").exists()
    assert (folder / "report.html").exists()


def _save_crops(installed: Installed, run: Path) -> None:
    """Three crops of the run's store as images."""
    program = f"""
from pathlib import Path
import cellpatch
from PIL import Image
from cellpatch.runs.stored_run import require_store
run = cellpatch.load_run({str(run)!r})
crops = require_store(run.record).crops([0, 1, 2])
assert run.predict(crops).shape == (3, 16)
Path("crops").mkdir()
for i, crop in enumerate(crops):
    Image.fromarray(crop).save(f"crops/{{i}}.png")
"""
    installed("python", "-c", program)
