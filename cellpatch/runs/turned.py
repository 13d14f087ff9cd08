"""Test-time augmentation of a finished run: its test cells predicted eight times, flipped and turned."""

from dataclasses import asdict, dataclass
from typing import Any, cast

from cellpatch.runs.condition_scores import ConditionScores, metrics_row, nested_rows
from cellpatch.runtime.json_types import Json


@dataclass(frozen=True, kw_only=True)
class TurnedScores:
    """A run's scores where the probabilities of a test cell are means over its `views`: flips and quarter turns.

    `file` holds these means. `seconds` are those of the prediction. Scaled scores use the run's own temperature.
    """

    file: str
    views: int
    seconds: float
    metrics: list[ConditionScores]

    def as_json(self) -> Json:
        """The scores as record.json stores them."""
        return cast(Json, asdict(self) | {"metrics": [metrics_row(row) for row in self.metrics]})


def nested_turned(stored: Any) -> Any:
    """The same of record.json with nested rows of scores; what is none is left to be rejected."""
    return stored | {"metrics": nested_rows(stored.get("metrics"))} if isinstance(stored, dict) else stored
