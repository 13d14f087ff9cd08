"""Errors that a grid tells apart from others, and those that damaged files raise."""


class UnavailableError(ValueError):
    """Published weights cannot be had on this machine: the runs that need them wait, the rest of a grid goes on."""


# What torch's restricted unpickler raises on damaged files, seen on 300 mutations of a legacy checkpoint.
BROKEN = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AssertionError, AttributeError)
