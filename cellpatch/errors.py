"""Errors that a grid tells apart from others."""


class UnavailableError(ValueError):
    """Published weights cannot be had on this machine: the runs that need them wait, the rest of a grid goes on."""
