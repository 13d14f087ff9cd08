"""The W&B workspace and report, as far as they go without an account."""

import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
import dashboard


def test_workspace_and_report_hold_the_keys_that_runs_log() -> None:
    for made in (dashboard.workspace("someone", "project"), dashboard.report("someone", "project")):
        told = str(made)
        for key in ("val_macro_f1", "test/macro_f1", "flag_limit", "misclassified", "examples", *dashboard.TABLES):
            assert key in told, key


@pytest.mark.parametrize("entity", [["someone"], []])
def test_without_an_account_it_says_what_to_do(entity: list[str]) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "dashboard.py"), *entity]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "HOME": "/nowhere"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "wandb login" in done.stderr
    assert "make report" in done.stderr
    assert "Traceback" not in done.stderr
