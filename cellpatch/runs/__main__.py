"""`python -m cellpatch.runs`: the command of cellpatch/cli/runs.py."""

import runpy

runpy.run_module("cellpatch.cli.runs", run_name="__main__")
