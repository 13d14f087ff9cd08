"""Checks of `cellpatch doctor`: each looks at one part of the machine and gives findings."""
