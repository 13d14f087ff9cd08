"""What a run's record states of its pretraining."""

from dataclasses import dataclass
from typing import Literal

from cellpatch.data.unlabelled import UnlabelledAudit

Method = Literal["mim", "distil"]


@dataclass(frozen=True, kw_only=True)
class PretrainingCost:
    """What a pretraining did and took, on the machine that did it.

    `losses` are means over at most ten equal stretches of the updates. `seconds` are those of the updates,
    `embed_seconds` those until the teacher's features were there. With several threads, core seconds are seconds times
    `threads`.
    """

    updates: int
    losses: list[float]
    seconds: float
    embed_seconds: float
    device: str
    threads: int

    @property
    def all_seconds(self) -> float:
        """Seconds of the updates and of the teacher's features."""
        return self.seconds + self.embed_seconds


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """The teacher: a model of conf/model, and the fingerprint of its published weights."""

    name: str
    weights: str


@dataclass(frozen=True, kw_only=True)
class PretrainingFacts:
    """How a run's weights came about before it was trained with labels.

    `entry` names the folder of the cache; `reused` states that it existed before the run. `fingerprint` covers what the
    run's identity takes of the pretraining beside its settings: its code, and the teacher.
    """

    method: Method
    fingerprint: str
    entry: str
    reused: bool
    cost: PretrainingCost
    audit: UnlabelledAudit
    teacher: TeacherFacts | None = None
