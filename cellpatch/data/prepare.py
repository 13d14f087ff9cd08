"""`python -m cellpatch.data.prepare`: the command of cellpatch/cli/prepare.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.prepare", run_name="__main__")
