"""The command `cellpatch VERB ...`, from an installed package or a checkout."""

import importlib
import sys
from collections.abc import Callable, Sequence

from cellpatch.cli.completion import FLAGS, complete
from cellpatch.cli.signals import end_on_signals
from cellpatch.runtime.version import __version__

# By the order of work: what a verb is called, the function that does it, and what it is for.
VERBS = {
    "example": ("example:main", "write a small project of synthetic cells to practise on"),
    "prepare": ("prepare:main", "read your cells and store their crops, ahead of training"),
    "train": ("train:main", "train one model, or with -m a grid; the same as python train.py"),
    "runs": ("runs:main", "show finished runs as a table"),
    "watch": ("watch:main", "show which runs are training, interrupted, failed or done"),
    "verify": ("verify:main", "check the files and the numbers of stored runs"),
    "diff": ("diff:main", "name the settings, data and code in which two runs differ"),
    "figures": ("experiments:figures", "draw the figures that runs allow"),
    "tables": ("experiments:tables", "write the tables that runs allow, as CSV, Markdown and LaTeX"),
    "report": ("experiments:report", "write one page with recommendation, figures and tables"),
    "dashboard": ("experiments:dashboard", "make a W&B workspace and report of uploaded runs"),
    "pack": ("pack:main", "pack the numbers of many runs into one small file"),
    "evaluate": ("evaluate:main", "score finished runs on other labelled cells, such as those of another hospital"),
    "audit": ("audit:main", "list likely label errors, duplicates and outliers among your labelled cells"),
    "agreement": ("agreement:main", "compare the labels of several annotators, and write consensus labels"),
    "predict": ("predict:main", "classify new cells with a run"),
    "next": ("next:main", "propose which cells to label next, and state what more labels are worth"),
    "export": ("export:main", "write a run as ONNX, for QuPath too"),
    "latency": ("latency:main", "measure how long runs take for a cell, and add it to their records"),
    "features": ("features:main", "measure how well features predict the specimen (batch effect) and separate classes"),
    "embeddings": ("embeddings:main", "list or delete the features that probes keep on disk"),
    "doctor": ("doctor:main", "check this machine: libraries, device, folders, locks, weights, accounts"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb with the arguments behind it; ends with status 1 for an unknown one, and as `end_on_signals` does."""
    verb, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if verb in ("-h", "--help"):
        print(usage())
    elif verb == "--version":
        print(f"cellpatch {__version__}")
    elif verb in FLAGS:
        complete([verb, *rest], VERBS, verb_function("train"))
    elif verb in VERBS:
        sys.argv = [f"cellpatch {verb}", *rest]
        with end_on_signals():
            verb_function(verb)()
    else:
        sys.exit(_unknown(verb))


def verb_function(verb: str) -> Callable[[], None]:
    """The function that does a verb; it reads its arguments from sys.argv."""
    module, _, function = VERBS[verb][0].partition(":")
    return getattr(importlib.import_module(f"cellpatch.cli.{module}"), function)


def usage() -> str:
    """The text of --help."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {verb:{width}}{purpose}" for verb, (_, purpose) in VERBS.items())
    return f"""\
usage: cellpatch VERB [ARGUMENTS]

Train models on your annotated cells, and see which one wins, from how many annotations on.

{verbs}

cellpatch VERB --help explains a verb. First steps:

  cellpatch train -m experiment=quick     a small study on synthetic cells, some minutes
  cellpatch figures runs/quick            its figures"""


def _unknown(verb: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(verb, VERBS, 1)
    hint = f"did you mean cellpatch {close[0]}?" if close else "cellpatch --help lists the verbs"
    return f"error: unknown verb {verb}; {hint}"
