"""Kinds of input, one file each, that fill a cell store. To add one: docs/recipes.md."""
