"""The version of cellpatch."""

__version__ = "0.6.0"
