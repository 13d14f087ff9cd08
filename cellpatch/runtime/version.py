"""The version of cellpatch."""

__version__ = "0.4.0"
