"""The rooms of the package: imports point down, no circle, nothing happens at import."""

import ast
import subprocess
import sys

import grimp
import pytest
from conftest import ROOT

MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "cellpatch").rglob("*.py")
    if file.name != "__main__.py"
)


def test_imports_point_down() -> None:
    """The layers stand in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Imports point down KEPT" in done.stdout
    assert "No import circle KEPT" in done.stdout


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("cellpatch")
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            assert graph.find_shortest_chain(importer=imported, imported=module) is None, (module, imported)


def test_scripts_import_no_other_script_but_in_their_own_folder() -> None:
    figures = {file.stem for kind in ("figures", "tables") for file in (ROOT / "experiments" / kind).glob("*.py")}
    for kind in ("figures", "tables"):
        for file in (ROOT / "experiments" / kind).glob("*.py"):
            names = {
                name
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
            }
            assert not names & figures, file.name


@pytest.mark.long
def test_importing_changes_nothing() -> None:
    """Every module of the package, in one fresh process: libraries may set up themselves, cellpatch's modules not.

    But cli/hydra_main.py silences a warning of Hydra: launchers' workers compose their config once they import it.
    """
    libraries = "torch, pytorch_lightning, timm, wandb, matplotlib, sklearn, hydra, pandas, torchvision, peft"
    script = f"""
import importlib, logging, os, sys, warnings
import {libraries}
import torch._dynamo.exc, torchmetrics.classification, pytorch_lightning.loggers, kornia.filters, rich.live, zarr

def state():
    loggers = {{n: x.level for n, x in logging.root.manager.loggerDict.items() if getattr(x, 'level', 0)}}
    return list(map(str, warnings.filters)), loggers, dict(os.environ), list(sys.path), os.getcwd()

for module in {MODULES!r}:
    before, loaded = state(), set(sys.modules)
    importlib.import_module(module)
    foreign = {{name.partition('.')[0] for name in set(sys.modules) - loaded}} - {{'cellpatch'}}
    if state() != before and not foreign:
        print(module)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() in ([], ["cellpatch.cli.hydra_main"])


@pytest.mark.parametrize(
    "module", ["analysis.results", "figures.plotting", "cli.runs", "cli.prepare", "config.assemble_data"]
)
def test_what_only_reads_does_without_torch(module: str) -> None:
    """Half a gigabyte and seconds: hundreds of runs are read, and stores prepared, without it."""
    script = f"import sys, cellpatch.{module}; print([name for name in ('torch', 'pytorch_lightning') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_figures_and_tables_need_no_torch() -> None:
    """It takes two seconds and half a gigabyte; a figure that computes with it imports it when it draws."""
    code = (
        "import sys; sys.path.insert(0, 'experiments/report'); import make_all, report; "
        "[make_all.load(file) for kind in make_all.KINDS for file in make_all.script_files(kind).values()]; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
