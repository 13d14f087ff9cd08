"""Unlabelled cells of several sources as one table, without those that would not train a run."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import abspath, realpath
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.data.sources.source import specimen_regex
from cellpatch.inference.new_cells import NewCells, PointOptions, list_cells
from cellpatch.inference.predict import predict
from cellpatch.runs.stored_run import StoredRun

HELD_OUT = "of specimens that validate or test the run"


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidates: `table` has the columns `source` (index into `cells`), `row` in it, `name`, `image`, `specimen`.

    `name` is unique. `probabilities` are None where the cells were not classified. `left_out` counts the others.
    """

    cells: list[NewCells]
    table: pd.DataFrame
    probabilities: Float[np.ndarray, "n classes"] | None
    left_out: Counter[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.table)

    def part(self, rows: Int[np.ndarray, " k"], source: int) -> tuple[NewCells, Int[np.ndarray, " m"]]:
        """Those of `rows` that are of a source, as cells of their own, and which rows they are."""
        of_source = rows[self.table["source"].to_numpy()[rows] == source]
        chosen = self.table["row"].to_numpy()[of_source]
        cells = self.cells[source]
        part = replace(
            cells,
            table=cells.table.iloc[chosen].reset_index(drop=True),
            files=[cells.files[row] for row in chosen],
            where=[cells.where[row] for row in chosen],
            xy=None if cells.xy is None else cells.xy[chosen],
            left_out={},
            index=None,
            document=None,
            feature=None,
        )
        return part, of_source


def read_pool(
    run: StoredRun,
    sources: Sequence[Path],
    points: PointOptions,
    weights_file: Path | None,
    pattern: str | None,
    classify: bool,
) -> Pool:
    """The cells of all sources but those of the run's validation and test specimens; `classify` gives probabilities.

    Raises ValueError if a source is there twice, has no cells, or as `predict`; or if no cell is left.
    """
    if twice := [name for name, n in Counter(realpath(source) for source in sources).items() if n > 1]:
        raise ValueError(f"each source must be given once, but {twice[0]} is there twice")
    regex, held_out = _regex_of(run, pattern), held_out_specimens(run)
    pool = Pool([], pd.DataFrame(), None, Counter(), [])
    tables, probabilities = [], []
    for number, source in enumerate(sources):
        if classify:
            prediction = predict(run.folder, source, weights_file, points)
            cells, rows, left_out = prediction.cells, np.array(prediction.rows), prediction.left_out
            notes, of_source = prediction.notes, prediction.probabilities
        else:
            cells = list_cells(source, points)
            if cells.xy is None and points != PointOptions():
                raise ValueError(f"{source} holds crops, cut already: a scale and a border are for points in images")
            left_out, notes, of_source = cells.left_out, cells.intake.sentences(), None
            rows = np.setdiff1d(np.arange(len(cells)), list(left_out)).astype(int)
        shown = {file: _shown_image(file, run, source, points.images_root) for file in set(cells.files)}
        images = [shown[cells.files[row]] for row in rows]
        specimens = _specimens(cells, rows, images, regex)
        table = pd.DataFrame({"source": number, "row": rows, "image": images, "specimen": specimens})
        table["name"] = [f"{realpath(source)} {row:012d}" for row in rows]
        kept = ~table["specimen"].isin(held_out).to_numpy()
        pool.cells.append(cells)
        pool.left_out.update(left_out.values())
        pool.left_out.update({HELD_OUT: int((~kept).sum())})
        pool.notes.extend(f"{source.name}: {note}" for note in notes)
        tables.append(table[kept])
        if of_source is not None:
            probabilities.append(of_source[kept])
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise ValueError(f"no cell is left to label: {describe(pool.left_out)}")
    return replace(pool, table=table, probabilities=np.concatenate(probabilities) if probabilities else None)


def describe(counts: Counter[str]) -> str:
    """Counts in words, the zeros left out."""
    return ", ".join(f"{n} {reason}" for reason, n in counts.items() if n) or "none was found"


def held_out_specimens(run: StoredRun) -> set[str]:
    """The specimens of the run's validation and test cells: a label there does not train, and would change the test.

    None where the split divides specimens.
    """
    if run.record.audit is not None and run.record.audit.by == "cell":
        return set()
    parts = [run.clean_predictions, *run.validation.values()]
    return {str(name) for part in parts for name in part.rows["specimen"].unique()}


def _regex_of(run: StoredRun, pattern: str | None) -> re.Pattern[str] | None:
    """The pattern that was given, else that of the run's data."""
    if pattern is None:
        data = run.record.settings.config["data"]
        stated = data.get("specimen_pattern") if isinstance(data, dict) else None
        pattern = stated if isinstance(stated, str) else None
    return specimen_regex(pattern)


def _shown_image(image: Path, run: StoredRun, source: Path, slides: Path | None) -> str:
    """An image's path: below the run's root if it lies there, else below --slide or the source, else its name."""
    data = run.record.settings.config["data"]
    root = data.get("root") if isinstance(data, dict) else None
    tops = [root] if isinstance(root, str) else []
    tops += [str(top) for top in (slides, source if source.is_dir() else source.parent) if top is not None]
    for path_of in (abspath, realpath):  # a link below the root may point anywhere, and so may the root
        for top in tops:
            file = Path(path_of(image))
            if file.is_relative_to(path_of(top)):
                return file.relative_to(path_of(top)).as_posix()
    return image.name


def _specimens(
    cells: NewCells, rows: Int[np.ndarray, " n"], images: Sequence[str], regex: re.Pattern[str] | None
) -> list[str]:
    """Each cell's specimen: the table's, or by the pattern, or as a training would name it without either.

    Of points that is the image, of crops the folder. Raises ValueError if the pattern does not match.
    """
    if "specimen" in cells.table:
        return [str(name) for name in cells.table["specimen"].iloc[rows]]
    if regex is not None:
        found = [regex.search(image) for image in images]
        for row, match in zip(rows, found, strict=True):
            if match is None or not match.group(1):
                raise ValueError(f"{cells.where[row]}: {regex.pattern!r} finds no specimen; give --specimen-pattern")
        return [match.group(1) for match in found if match is not None]
    if cells.xy is not None:
        return [Path(image).with_suffix("").as_posix() for image in images]
    return [Path(image).parent.name or Path(image).parent.as_posix() for image in images]
