"""Points in tables: of any tool, of EndoNuke, of the authors' viewer."""

from pathlib import Path

import pandas as pd

from cellpatch.data.annotations.files import annotation_files, shown_name
from cellpatch.data.images.pixels import SLIDE_SUFFIXES, SUFFIXES
from cellpatch.data.tables import decode_text, read_points_table

COLUMNS = ["image", "x", "y", "class"]


def read_tables(root: Path, points: str) -> pd.DataFrame:
    """CSV, TSV or Parquet with image, x, y, class, optional specimen, site, split and cell_id."""
    tables = [read_points_table(file, COLUMNS, shown_name(root, file)) for file in annotation_files(root, points)]
    table = pd.concat(tables, ignore_index=True)
    table["image"] = table["image"].str.replace("\\", "/")  # of Windows
    return table


def read_endonuke(root: Path, points: str) -> pd.DataFrame:
    """`*/images/NAME.png` with `*/labels/NAME.txt`, lines `x y class`."""
    rows = []
    for file in annotation_files(root, points):
        image = _below(root, file.parent.parent / "images" / f"{file.stem}.png")
        name = _below(root, file)
        for number, line in enumerate(decode_text(file).splitlines(), 1):
            where = f"{name}, row {number}"
            fields = line.split()
            if len(fields) != 3:
                raise ValueError(f"{where}: must be 'x y class', but got {line!r}")
            rows.append((image, *fields, where))
    return pd.DataFrame(rows, columns=[*COLUMNS, "where"])


def read_viewer(root: Path, points: str) -> pd.DataFrame:
    """Tab-separated Shift-JIS without header (X, Y, CELLTYPE, PROB, COLOR, DR), in the image's folder."""
    tables = []
    names = ["x", "y", "class", "prob", "color", "dr"]
    for file in annotation_files(root, points):
        try:
            table = pd.read_csv(
                file, sep="\t", header=None, names=names, encoding="cp932", dtype=str, keep_default_na=False
            )
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: is not a tab-separated Shift-JIS table of {names} ({error})") from error
        table["image"] = _below(root, _only_image(file))
        name = _below(root, file)
        table["where"] = [f"{name}, row {row}" for row in range(1, len(table) + 1)]
        tables.append(table[[*COLUMNS, "where"]])
    return pd.concat(tables, ignore_index=True)


def _below(root: Path, file: Path) -> str:
    """The file's path relative to root; raises ValueError if it is not below root."""
    if not file.is_relative_to(root):
        raise ValueError(f"{file}: must be below data.root, {root}, beside its image")
    return file.relative_to(root).as_posix()


def _only_image(file: Path) -> Path:
    suffixes = SUFFIXES | SLIDE_SUFFIXES
    images = sorted(f for f in file.parent.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))
    if len(images) != 1:
        raise ValueError(f"{file}: needs exactly one image in its folder, but found {len(images)}")
    return images[0]
