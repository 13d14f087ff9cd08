"""The W&B workspace and report, as far as they go without an account."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dashboard
import numpy as np
import pytest
from conftest import ROOT, unaudited_split

from cellpatch.data.dataset import CellDataset
from cellpatch.data.store.reader import CellStore
from cellpatch.metrics import classification
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs import wandb_log
from cellpatch.runs.record import ConditionScores


def test_workspace_and_report_hold_the_keys_that_runs_log(store_of: Callable[..., Path]) -> None:
    found: dict[str, Any] = {}
    labels, probabilities = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    metrics = [ConditionScores(CLEAN, classification.score_predictions(labels, probabilities, ["a", "b"], 1.0))]
    rest = np.arange(4, 30)
    study = CellDataset(
        CellStore(store_of()), ["a", "b"], np.tile([0, 1, 1], 10), unaudited_split(rest, rest, np.arange(4))
    )
    wandb_log.log_review(SimpleNamespace(experiment=SimpleNamespace(log=found.update)), metrics, study, probabilities)
    assert [image._caption for image in found["misclassified"]] == ["b taken for a (0.60)"]
    assert [image._caption for image in found["examples"]] == ["a", "b"]
    assert found["test/macro_f1"] == pytest.approx(metrics[0].scores.macro_f1)
    shown = {"test/macro_f1", "misclassified", "examples", *dashboard.TABLES} - {"latency", "confusion_table"}
    assert shown <= set(found)
    assert "confusion" in found, "whose table W&B calls confusion_table"
    for made in (dashboard.workspace("someone", "project"), dashboard.report("someone", "project")):
        output = str(made)
        for key in (*shown, "val_macro_f1", "flag_limit", "latency", "confusion_table"):
            assert key in output, key


@pytest.mark.parametrize("entity", [["someone"], []])
def test_without_an_account_it_says_what_to_do(entity: list[str]) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "report" / "dashboard.py"), *entity]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "HOME": "/nowhere"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "wandb login" in done.stderr
    assert "make report" in done.stderr
    assert "Traceback" not in done.stderr
