"""Axes of the grid that describe the input: its side, and how much of the tissue it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cellpatch.analysis.groups import SeedGroup
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.coordinates import FIELD, GroupCoordinates


@dataclass(frozen=True)
class InputAxis:
    """A coordinate of groups, its unit and title, its words in a caption, and how to add values where there is one."""

    name: Literal["input_px", "field_um"]
    unit: str
    title: str
    words: str
    advice: str

    def value(self, coordinates: GroupCoordinates) -> float:
        """Where a group stands on the axis."""
        return float(getattr(coordinates, self.name))


INPUT_SIDE = InputAxis(
    "input_px",
    "px",
    "input side",
    "the side of the resized cells",
    "no model was run at several input sides: model.backbone.input_px=56,112,224 adds them",
)
FIELD_OF_VIEW = InputAxis(
    "field_um",
    "um",
    "field of view",
    "the side of the field that a crop shows",
    "no model was run at several fields: data.field_um=10,20,40 data.widest_field_um=40 adds them",
)


@dataclass(frozen=True)
class AxisCurve:
    """The groups of one label and flag_limit by their value of the axis."""

    label: str
    limit: int
    by_value: dict[float, SeedGroup]

    def summary(self, value: float) -> tuple[float, float, float]:
        """Macro-F1 on clean cells and its interval; NaN where there are no runs."""
        if value not in self.by_value:
            return (np.nan,) * 3
        return self.by_value[value].estimate(CLEAN, macro_f1).summary()


def axis_curves(axis: InputAxis, groups: Sequence[SeedGroup]) -> list[AxisCurve]:
    """Curves of what was run at several values; labels have other coordinates of the input where these differ."""
    by_rest: dict[GroupCoordinates, dict[float, SeedGroup]] = {}
    for group in groups:
        at = group.coordinates
        rest = replace(at, input_px=0) if axis.name == "input_px" else replace(at, field_um=0.0)
        by_rest.setdefault(rest, {})[axis.value(group.coordinates)] = group
    several = {rest: by_value for rest, by_value in by_rest.items() if len(by_value) > 1}
    differ = {name: len({getattr(rest, name) for rest in several}) > 1 for name in (FIELD, "input_px", "optics")}
    curves = []
    for rest, by_value in several.items():
        words = [rest.model, rest.adapt]
        words += [f"{rest.field_um:g} um"] if differ[FIELD] else []
        words += [f"{rest.input_px} px"] if differ["input_px"] else []
        words += [rest.optics] if differ["optics"] else []
        curves.append(AxisCurve(", ".join(words), rest.flag_limit, by_value))
    return curves
