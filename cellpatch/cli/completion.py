"""Completion of `cellpatch` in a shell: verbs by us, settings of train and prepare by Hydra.

eval "$(cellpatch --shell-completion install=bash)"
"""

import os
import sys
from collections.abc import Callable, Collection, Sequence

FLAGS = ("--shell-completion", "-sc")  # Hydra's; its script calls `cellpatch -sc query=bash` at the Tab key
_WITH_SETTINGS = ("train", "prepare")


def complete(arguments: Sequence[str], verbs: Collection[str], train: Callable[[], None]) -> None:
    """Answer a query of the shell, whose line so far is in COMP_LINE; other arguments are Hydra's.

    `train` is the function of the verb of that name.
    """
    line = os.environ.get("COMP_LINE", "")
    words = [*line.split(), *([""] if line.endswith(" ") else [])]
    if "query=bash" in arguments:
        if len(words) < 3:
            print(" ".join(verbs))
            return
        if words[1] not in _WITH_SETTINGS:
            return  # the shell completes names of files
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    sys.argv = ["cellpatch", *arguments]
    train()
