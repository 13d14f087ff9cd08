"""`python -m cellpatch.predict`: the command of cellpatch/cli/predict.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.predict", run_name="__main__")
