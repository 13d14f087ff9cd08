"""Paths from tables and annotation files."""

import os
from pathlib import Path


def resolve_inside(root: Path, name: str, where: str) -> Path:
    """The normalised path of the file `name` below `root`; raises ValueError if it points outside.

    The check does not follow links: a link that the user put below root may point anywhere.
    """
    return Path(path_inside(root, name, where))


def path_inside(root: Path, name: str, where: str) -> str:
    """As `resolve_inside`, as a string: a Path each takes seconds of a study's files."""
    top = os.path.abspath(root)  # noqa: PTH100 (resolve would follow links)
    file = os.path.abspath(os.path.join(top, name))  # noqa: PTH100, PTH118
    above = os.path.join(top, "")  # noqa: PTH118
    if file != top and not file.startswith(above):
        raise ValueError(f"{where}: {name!r} points outside {root}")
    return os.path.join(root, file[len(above) :])  # noqa: PTH118
