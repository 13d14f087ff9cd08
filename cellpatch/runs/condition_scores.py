"""A run's scores under one condition, typed and as a flat row of record.json."""

from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter

from cellpatch.metrics.classification import Scores
from cellpatch.optics.conditions import Condition
from cellpatch.runtime.json_types import Json


@dataclass(frozen=True)
class ConditionScores:
    """The scores of a run under one condition.

    `mirrored_cells` are the test cells whose margin is mirrored within the blur's reach; None where it was not counted.
    """

    condition: Condition
    scores: Scores
    mirrored_cells: int | None = None


def nested_rows(rows: Any) -> Any:
    """Each row's condition apart from its scores; what is no such row is left to be rejected."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return rows
    return [
        {
            "condition": {"kind": row.get("kind"), "sigma": row.get("sigma")},
            "scores": {key: value for key, value in row.items() if key != "mirrored_cells"},
            "mirrored_cells": row.get("mirrored_cells"),
        }
        for row in rows
    ]


def metrics_row(row: ConditionScores) -> Json:
    """A condition and its scores as one flat row of record.json."""
    scores = cast(Json, _SCORES.dump_python(row.scores, by_alias=True))
    for optional in ("cost_weighted_error", "reliability"):
        if scores[optional] is None:
            del scores[optional]
    mirrored: Json = {} if row.mirrored_cells is None else {"mirrored_cells": row.mirrored_cells}
    return {"kind": row.condition.kind, "sigma": row.condition.sigma, **scores, **mirrored}


_SCORES = TypeAdapter(Scores)  # a schema, built once
