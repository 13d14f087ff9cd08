"""`python -m cellpatch.example`: the command of cellpatch/cli/example.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.example", run_name="__main__")
