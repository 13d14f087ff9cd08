"""Verbs that are scripts of experiments/: figures, tables, report, dashboard."""

import importlib.util
import runpy
import sys

from cellpatch.runtime.resources import resource_dir


def figures() -> None:
    """`cellpatch figures RUNS [NAME ...]`: all figures that the runs allow, or those named."""
    _run("report/make_all.py", "figures")


def tables() -> None:
    """`cellpatch tables RUNS [NAME ...]`: all tables that the runs allow, or those named."""
    _run("report/make_all.py", "tables")


def report() -> None:
    """`cellpatch report RUNS`: figures, tables and recommendation as one page."""
    _run("report/report.py")


def dashboard() -> None:
    """`cellpatch dashboard [ENTITY] [PROJECT]`: a W&B workspace of uploaded runs."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        sys.exit("error: cellpatch dashboard needs another package: pip install 'cellpatch[dashboard]'")
    _run("report/dashboard.py")


def _run(script: str, *before: str) -> None:
    """Run a script as `python SCRIPT` does, with arguments before those of the command line."""
    file = resource_dir("experiments") / script
    sys.path.insert(0, str(file.parent))
    sys.argv[1:1] = before
    runpy.run_path(str(file), run_name="__main__")
