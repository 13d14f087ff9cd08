"""`python -m cellpatch VERB`: the command cellpatch."""

from cellpatch.cli.program import main

if __name__ == "__main__":
    main()
