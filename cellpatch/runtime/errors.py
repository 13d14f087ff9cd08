"""Errors that a grid handles apart from others, and those that damaged files raise."""

import struct


class UnavailableError(ValueError):
    """Pretrained weights are unavailable on this machine: runs that need them are skipped, other runs continue."""


# What torch's restricted unpickler raises on damaged files: seen on 300 mutations and all truncations of a legacy one.
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
