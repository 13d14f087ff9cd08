"""`python -m cellpatch.features`: the command of cellpatch/cli/separability.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.separability", run_name="__main__")
