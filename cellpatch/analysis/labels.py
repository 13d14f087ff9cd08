"""Labels of groups and curves: what figures and tables call them."""

from collections.abc import Sequence
from typing import TypeVar

import pandas as pd

from cellpatch.analysis.curves import LearningCurve
from cellpatch.analysis.groups import SeedGroup
from cellpatch.runs.coordinates import FIELD, CurveCoordinates

ROW_KEYS = ["model", "adapt", FIELD, "input_px", "optics", "flag_limit"]  # coordinates that rows of a table state
Labelled = TypeVar("Labelled", SeedGroup, LearningCurve)


def by_label(items: Sequence[Labelled], groups: Sequence[SeedGroup]) -> dict[str, Labelled]:
    """Groups of one limit, or curves, by their labels.

    A label is the model, the adaptation if there is one, and field, input side and optics if the model has several
    among `groups`. With all groups of a data set, one thing has one label in all figures.
    """
    labels = label_curves([item.coordinates for item in items], groups)
    return dict(zip(labels, items, strict=True))


def row_keys(groups: Sequence[SeedGroup]) -> list[str]:
    """ROW_KEYS, the field only where groups differ in it."""
    fields = {group.coordinates.field_um for group in groups}
    return [key for key in ROW_KEYS if key != FIELD or len(fields) > 1]


def row_of(group: SeedGroup, groups: Sequence[SeedGroup]) -> dict[str, object]:
    """The coordinates of one of the groups, as the first columns of its row."""
    return {key: getattr(group.coordinates, key) for key in row_keys(groups)}


def keys_in(table: pd.DataFrame) -> list[str]:
    """The coordinates that a table of such rows states."""
    return [key for key in ROW_KEYS if key in table]


def label_curves(curves: Sequence[CurveCoordinates], groups: Sequence[SeedGroup]) -> list[str]:
    """The label of each curve, as for `by_label`."""
    fields: dict[str, set[float]] = {}
    sides: dict[str, set[int]] = {}
    optics: dict[str, set[str]] = {}
    for group in groups:
        fields.setdefault(group.coordinates.model, set()).add(group.coordinates.field_um)
        sides.setdefault(group.coordinates.model, set()).add(group.coordinates.input_px)
        optics.setdefault(group.coordinates.model, set()).add(group.coordinates.optics)
    labels = []
    for at in curves:
        words = [at.model] if at.from_scratch else [at.model, at.adapt]
        words += [f"{at.field_um:g} um"] if len(fields[at.model]) > 1 else []
        words += [f"{at.input_px} px"] if len(sides[at.model]) > 1 else []
        words += [at.optics] if len(optics[at.model]) > 1 else []
        labels.append(", ".join(words))
    return labels
