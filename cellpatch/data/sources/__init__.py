"""Kinds of input, one file each, that fill a cell store."""
