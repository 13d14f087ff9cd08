"""Specimens and sites of images, from a table of a user's."""

from pathlib import Path

import pandas as pd

from cellpatch.data.class_names import clean_name
from cellpatch.data.tables import read_table


def specimens_of(images: list[str], table: str) -> dict[str, pd.Series]:
    """The row of each image in a table with `image` and `specimen`, by its path, file name or stem.

    Raises ValueError if an image has no row.
    """
    by_name = _by_name(read_table(Path(table), ["image", "specimen"]))
    return {image: _row_of(image, by_name, table) for image in images}


def _by_name(specimens: pd.DataFrame) -> dict[str, pd.Series]:
    """Rows of a table of specimens by the image's path, file name and stem; a name of two images is left out."""
    rows: dict[str, pd.Series] = {}
    twice = set()
    for _, row in specimens.iterrows():
        path = Path(clean_name(row["image"]).replace("\\", "/"))
        for name in {path.as_posix(), path.name, path.stem}:
            if name in rows and rows[name]["specimen"] != row["specimen"]:
                twice.add(name)
            rows[name] = row
    return {name: row for name, row in rows.items() if name not in twice}


def _row_of(image: str, by_name: dict[str, pd.Series], table: str) -> pd.Series:
    path = Path(clean_name(image))
    for name in (path.as_posix(), path.name, path.stem, path.with_suffix("").name.removesuffix(".ome")):
        if name in by_name:
            return by_name[name]
    raise ValueError(f"{table}: has no row for the image {image}")
