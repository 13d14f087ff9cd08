"""The version of cellpatch."""

__version__ = "0.5.0"
