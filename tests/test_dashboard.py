"""The W&B workspace and report, as far as they go without an account."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dashboard
import pytest
import wandb_workspaces.reports.v2 as wr
from conftest import ROOT, config_of
from wandb_workspaces.workspaces.internal import View as Workspace

from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking.facts import hyperparameters, numbers
from cellpatch.sweeps.train import train

FolderMaker = Callable[..., Path]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "adapt.batch_size=8"]
SMALL_CNN += ["trainer.max_epochs=1", "flag_limit=8"]


def test_the_workspace_shows_what_runs_log_and_fits_the_schema(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    made = dashboard.specification("someone", "project")
    spec = json.dumps(made)
    assert Workspace.model_validate_json(spec), "the schema of the library"
    train(config_of(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, "optics.sigma=[0.4,0.8,1.6,3.2]", "logger=none"))
    [folder] = (tmp_path / "runs").glob("cnn*")
    record = StoredRun.open(folder).record
    logged = {*numbers(record), *hyperparameters(record), *record.history[0], "latency/eager_ms"}
    logged |= {"confusion", "cells/wrong", "cells/correct"}
    logged |= {"tables/per_class", "tables/confusion", "tables/blur", "tables/latency"}
    shown = _keys(dashboard.panels())
    assert len(shown) > 25
    assert shown <= logged, shown - logged
    for key in shown:
        assert key in spec, key
    assert '"label.value"' in spec, "a curve a model and adaptation"
    for title in ("Scaling", "Blur", "Cost", "Runs", "Confusion and errors of the best run", "Training"):
        assert title in spec
    report = str(dashboard.report("someone", "project"))
    assert all(key in report for key in shown)


def _keys(node: Any) -> set[str]:
    """Every key of a run that panels name."""
    if isinstance(node, dict):
        return set().union(*map(_keys, node.values()))
    if isinstance(node, list):
        return set().union(*map(_keys, node))
    if isinstance(node, wr.Config | wr.SummaryMetric):
        return {node.name}
    if isinstance(node, wr.LinePlot):
        return {str(node.x), *map(str, node.y)} | _keys(node.groupby)
    if isinstance(node, wr.BarPlot):
        return _keys(node.metrics) | _keys(node.groupby)
    if isinstance(node, wr.ScatterPlot):
        return _keys([node.x, node.y])
    if isinstance(node, wr.ParallelCoordinatesPlot):
        return _keys([column.metric for column in node.columns])
    if isinstance(node, wr.MediaBrowser):
        return set(node.media_keys)
    return {node.table_name} if isinstance(node, wr.WeavePanelSummaryTable) else set()


def test_the_specification_is_written_without_an_account(tmp_path: Path) -> None:
    file = tmp_path / "workspace.json"
    command = [sys.executable, str(ROOT / "experiments" / "report" / "dashboard.py"), "--spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "HOME": "/nowhere"})
    assert done.returncode == 0, done.stderr
    assert json.loads(file.read_text())["displayName"] == "cellpatch"


@pytest.mark.parametrize("entity", [["someone"], []])
def test_without_an_account_it_says_what_to_do(entity: list[str]) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "report" / "dashboard.py"), *entity]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "HOME": "/nowhere"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "wandb login" in done.stderr
    assert "make report" in done.stderr
    assert "Traceback" not in done.stderr
