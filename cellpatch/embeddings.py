"""`python -m cellpatch.embeddings`: the command of cellpatch/cli/embeddings.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("cellpatch.cli.embeddings", run_name="__main__")
