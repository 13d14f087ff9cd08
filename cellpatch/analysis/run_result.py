"""What figures and tables know of a run: its record, and its test cells counted by specimen, class and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from json import dumps
from pathlib import Path

from cellpatch.analysis.compact import Confusions, expand
from cellpatch.data.splitter import HeldOutFold
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.coordinates import RunCoordinates
from cellpatch.runs.identity import effective_split
from cellpatch.runs.record import Record
from cellpatch.runtime.json_types import Json


@dataclass(frozen=True, eq=False)
class CohortResult:
    """A run's predictions of an external cohort: the sorted names of its specimens, confusion matrices by condition."""

    specimens: tuple[str, ...]
    confusions: Mapping[Condition, Confusions]


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: caches of scores use it as their key
class RunResult:
    """One run: its record, the sorted names of its test specimens, and their confusion matrices by condition.

    Rows of a confusion matrix are true classes, columns predicted ones. `compressed` is the record as it was written.
    `folder` is where the run lies, None if it was packed. `folds` are the runs that `pool_folds` made it of. `cohorts`
    are the external cohorts that it was evaluated on, by name. `turned` has the confusion matrices with test-time
    augmentation, empty without.
    """

    run: str
    record: Record
    specimens: tuple[str, ...]
    confusions: Mapping[Condition, Confusions]
    compressed: bytes = field(repr=False)
    folder: Path | None = None
    folds: tuple["RunResult", ...] = field(default=(), repr=False)
    cohorts: Mapping[str, CohortResult] = field(default_factory=dict, repr=False)
    turned: Mapping[Condition, Confusions] = field(default_factory=dict, repr=False)

    @property
    def stored(self) -> Json:
        """The record as it was written, by whichever version."""
        return expand(self.compressed)

    @property
    def trainings(self) -> tuple["RunResult", ...]:
        """The run itself, or its folds: each is one training."""
        return self.folds or (self,)

    @property
    def held_out_fold(self) -> HeldOutFold | None:
        """The fold of specimens that it tested; None for a split without folds, and for pooled ones."""
        return None if self.record.audit is None else self.record.audit.held_out_fold

    @property
    def coordinates(self) -> RunCoordinates:
        """Where it stands in a grid."""
        return self.record.settings.coordinates

    @property
    def n_train(self) -> int:
        """Training cells of all classes."""
        return self.record.n_train

    @property
    def name(self) -> str:
        """The run, as folders name it."""
        return self.run

    @property
    def specimens_by_class(self) -> dict[str, int]:
        """In how many test specimens each class lies."""
        present = self.confusions[CLEAN].sum(axis=2) > 0
        return dict(zip(self.record.classes, present.sum(axis=0).tolist(), strict=True))

    @cached_property
    def test_set_key(self) -> str:
        """Identifies the test cells: runs with the same key can be compared cell by cell."""
        counts = self.confusions[CLEAN].sum(axis=2)
        return dumps([self.record.data.fingerprint, self._split, counts.tolist()], sort_keys=True)

    @cached_property
    def cells_key(self) -> str:
        """Identifies the test cells whatever their crops show: at several fields they have the same key."""
        counts = self.confusions[CLEAN].sum(axis=2)
        return dumps([self.record.classes, self.specimens, self._split, counts.tolist()], sort_keys=True)

    @cached_property
    def folds_key(self) -> str:
        """Identifies the cells and how they are parted into folds: runs of the folds of one study have the same key."""
        split = {key: value for key, value in self._split.items() if key != "fold"}
        return dumps([self.record.data.fingerprint, split], sort_keys=True)

    @property
    def _split(self) -> Json:
        split = effective_split(self.record.settings)
        return {key: value for key, value in split.items() if key != "fold"} if self.folds else split
