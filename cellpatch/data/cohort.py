"""Labelled cells of another cohort, in the classes of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Int

from cellpatch.data.class_names import clean_name
from cellpatch.data.store.reader import CellStore

ClassMap = Mapping[str, str | None]


@dataclass(frozen=True)
class CohortCells:
    """The cells of a cohort that have a class of the run: where they are in its store, and their classes by index.

    `class_map` states the run's class for each class of the cohort, None where it has none; `left_out` counts these
    cells.
    """

    cells: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    class_map: dict[str, str | None]
    left_out: dict[str, int]


def read_class_map(file: Path) -> dict[str, str | None]:
    """A YAML file of lines `THEIRS: OURS`, or `THEIRS: null` for cells to leave out.

    Raises ValueError that names the file for anything else.
    """
    allowed = "lines of THEIR CLASS: OUR CLASS, or null to leave its cells out"
    try:
        stated = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"--classes {file} must have {allowed}, but cannot be read ({error})") from error
    if not isinstance(stated, dict) or not all(isinstance(value, str | int | None) for value in stated.values()):
        raise ValueError(f"--classes {file} must have {allowed}, but got {str(stated)[:80]}")
    return {clean_name(key): None if value is None else clean_name(value) for key, value in stated.items()}


def map_cells(store: CellStore, classes: Sequence[str], stated: ClassMap) -> CohortCells:
    """The cells of a cohort in the run's `classes`: as stated, else by the same name.

    Raises ValueError for a class that the cohort or the run does not have, and if no cell is left.
    """
    theirs = list(store.manifest.classes)
    if unknown := sorted(set(stated) - set(theirs)):
        raise ValueError(f"--classes must name classes of the cohort, {theirs}, but has {unknown}")
    if unknown := sorted({name for name in stated.values() if name is not None} - set(classes)):
        raise ValueError(f"--classes must lead to classes of the run, {list(classes)}, but has {unknown}")
    class_map = {name: stated.get(name, name if name in classes else None) for name in theirs}
    code = [-1 if ours is None else classes.index(ours) for ours in class_map.values()]
    labels = np.array(code, np.int64)[store.labels]
    cells = np.flatnonzero(labels >= 0)
    if not len(cells):
        raise ValueError(
            f"no cell of the cohort has a class of the run: it has {theirs}, the run {list(classes)}; "
            "--classes FILE states which are the same"
        )
    others = store.labels[labels < 0]
    counts = np.bincount(others, minlength=len(theirs))
    left_out = {theirs[code]: int(counts[code]) for code in pd.unique(others)}
    return CohortCells(cells, labels[cells], class_map, left_out)
