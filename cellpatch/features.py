"""`python -m cellpatch.features`: the command of cellpatch/cli/features.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.features", run_name="__main__")
