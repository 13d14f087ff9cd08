"""A command as a process of its own, which ends at once when its work is done.

Python takes its objects apart before it ends, a million of them after a training, for 1.5 s. The kernel frees a process
at once.
"""

import atexit
import ctypes
import os
import sys
from collections.abc import Callable

from cellpatch.runtime.threads import wait_briefly


def main() -> None:
    """The command `cellpatch`."""
    run_program(_verbs)


def train() -> None:
    """`python train.py`, which is `cellpatch train`."""
    run_program(_train)


def run_program(command: Callable[[], None]) -> None:
    """Run a command as the last work of this process; call it before anything is imported that has work at the end.

    Its threads leave their core soon when they wait (`wait_briefly`).

    Once the command has returned, the process ends after all other work: threads have ended, every function given to
    `atexit` was called, streams are flushed. It ends as usual, with Python's own status, after an error, where a stream
    cannot be written, and where something else came first (a debugger, coverage), whose work would be left out.
    """
    succeeded = False

    def end() -> None:
        if succeeded:
            sys.stdout.flush()
            sys.stderr.flush()
            ctypes.CDLL(None).fflush(None)  # what libraries in C have printed
            os._exit(0)

    if atexit._ncallbacks() == 0:  # what comes first is called last
        atexit.register(end)
    wait_briefly()
    command()
    succeeded = True


def _verbs() -> None:
    from cellpatch.cli.main import main

    main()


def _train() -> None:
    from cellpatch.cli.signals import end_on_signals
    from cellpatch.cli.train import main

    with end_on_signals():
        main()
