"""`python -m cellpatch.results`: the command of cellpatch/cli/pack.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.pack", run_name="__main__")
