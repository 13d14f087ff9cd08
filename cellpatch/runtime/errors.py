"""Errors that a grid tells apart from others, and those that damaged files raise."""

import struct


class UnavailableError(ValueError):
    """Published weights cannot be had on this machine: the runs that need them wait, the rest of a grid goes on."""


# What torch's restricted unpickler raises on damaged files, seen on 300 mutations and all truncations of a legacy one.
CHECKPOINT_READ_ERRORS = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    AttributeError,
    struct.error,
)
