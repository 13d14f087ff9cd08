"""`python -m cellpatch.export`: the command of cellpatch/cli/export.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.export", run_name="__main__")
