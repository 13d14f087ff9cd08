"""Other labelled cells that a finished run was evaluated on: another hospital, scanner or stain."""

from dataclasses import asdict, dataclass
from typing import Any, cast

from cellpatch.runs.condition_scores import ConditionScores, metrics_row, nested_rows
from cellpatch.runtime.json_types import Json


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A cohort that is external to a run's study, and the run's scores on it.

    `fingerprint` is that of all its cells, `file` holds their predictions. `class_map` has the class of the run for
    each class of the cohort; null, and cells counted in `left_out`, where there is none. `equal_crops` are cells whose
    crop is byte-identical to one of the study, `shared_specimens` names that both have; None where the study's cells
    were not at hand.
    """

    name: str
    fingerprint: str
    synthetic: bool
    file: str
    class_map: dict[str, str | None]
    left_out: dict[str, int]
    specimens: int
    metrics: list[ConditionScores]
    equal_crops: int | None = None
    shared_specimens: list[str] | None = None

    def as_json(self) -> Json:
        """The cohort as record.json stores it."""
        return cast(Json, asdict(self) | {"metrics": [metrics_row(row) for row in self.metrics]})


def nested_cohorts(stored: Any) -> Any:
    """Cohorts of record.json with nested rows of scores; what is none is left to be rejected."""
    if not isinstance(stored, list):
        return stored
    return [each | {"metrics": nested_rows(each.get("metrics"))} if isinstance(each, dict) else each for each in stored]
