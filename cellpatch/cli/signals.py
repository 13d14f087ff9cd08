"""How a command ends on Ctrl-C or SIGTERM: what is half-written is removed, then one line and status 130 or 143."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Run a command; the first SIGINT or SIGTERM in it raises KeyboardInterrupt, further ones do nothing.

    So `finally` blocks clean up undisturbed. The command then ends with the message of the KeyboardInterrupt and the
    status 128 + signal, whatever its libraries raise meanwhile. Child processes end first: their work is not used. A
    signal that is ignored stays so (nohup). Handlers are restored. Outside the main thread signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            _kill_children()
            raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _ENDING}
    for number in _ENDING:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    except BaseException as error:  # such as a broken pool, after its processes were killed
        if not received and not isinstance(error, KeyboardInterrupt):
            raise
        if received:
            before = dict.fromkeys(_ENDING, signal.SIG_IGN)  # until the interpreter has ended
        print(_message(error), file=sys.stderr)
        sys.exit(128 + (received or [signal.SIGINT])[0])
    finally:
        for number in _ENDING:
            signal.signal(number, before[number])


def _kill_children() -> None:
    """End the processes of pools and of a training on several devices.

    Not a data loader's: these end with it, and torch raises for one that is killed.
    """
    for child in multiprocessing.active_children():
        if not child.daemon and child.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)  # joblib's processes have no method for it


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, KeyboardInterrupt) and error.args else "interrupted"
