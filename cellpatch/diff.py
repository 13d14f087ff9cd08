"""`python -m cellpatch.diff`: the command of cellpatch/cli/diff.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.diff", run_name="__main__")
