"""Paths from tables and annotation files."""

import os
from pathlib import Path


def resolve_inside(root: Path, name: str, where: str) -> Path:
    """The normalised path of the file `name` below `root`; raises ValueError if it points outside.

    The check does not follow links: a link that the user put below root may point anywhere.
    """
    top = Path(os.path.abspath(root))  # noqa: PTH100 (resolve would follow links)
    file = Path(os.path.abspath(top / name))  # noqa: PTH100
    if not file.is_relative_to(top):
        raise ValueError(f"{where}: {name!r} points outside {root}")
    return root / file.relative_to(top)
