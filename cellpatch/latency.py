"""`python -m cellpatch.latency`: the command of cellpatch/cli/latency.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.latency", run_name="__main__")
