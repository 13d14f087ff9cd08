"""What groups and curves are called."""

from collections.abc import Sequence
from typing import TypeVar

from cellpatch.analysis.curves import LearningCurve
from cellpatch.analysis.groups import SeedGroup

Labelled = TypeVar("Labelled", SeedGroup, LearningCurve)


def by_label(found: Sequence[Labelled], groups: Sequence[SeedGroup]) -> dict[str, Labelled]:
    """Groups of one limit, or curves, by what they are called.

    Model, way of adapting if there is one, input side and optics if the model has several among `groups`: with all of a
    data set, one thing has one name in all figures.
    """
    several: dict[tuple[str, str], set[object]] = {}
    for group in groups:
        for axis in ("input_px", "optics"):
            several.setdefault((group.place["model"], axis), set()).add(group.place[axis])
    names = {}
    for each in found:
        model, adapt, side, optics = (each.place[axis] for axis in ("model", "adapt", "input_px", "optics"))
        words = [model] if adapt == "scratch" else [model, adapt]
        words += [f"{side} px"] if len(several[model, "input_px"]) > 1 else []
        words += [optics] if len(several[model, "optics"]) > 1 else []
        names[", ".join(words)] = each
    return names
