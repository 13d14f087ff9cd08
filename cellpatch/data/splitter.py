"""What a split is: its cells, its parts with the flag_limit prefix, its audit."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from cellpatch.data.specimens import Specimens, shared_specimens
from cellpatch.data.split_copies import (
    LeftOut,
    NearCopies,
    count_left_out,
    count_near_copies,
    find_copies,
    find_dropped,
    find_near_copies,
)
from cellpatch.data.split_draws import counts_by_class, prefix_of_each_class
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.typed import typed_list

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class HeldOutFold:
    """The fold of specimens that is the test set, from 0, and of how many; raises ValueError if it is none of them."""

    fold: int
    folds: int

    def __post_init__(self) -> None:
        if not 0 <= self.fold < self.folds:
            raise ValueError(
                f"data.split.fold must be 0 to {self.folds - 1}, for data.split.folds={self.folds}, but got {self.fold}"
            )


@dataclass(frozen=True, eq=False)
class LabelledCells:
    """The cells to split, by column.

    `labels` index the classes; cells labelled -1 are left out. `specimens` are names, sorted if they are categories.
    `digests` are 16 bytes, equal for equal crops. `predefined_split` names each cell's part, where the source brings
    its own split; `sites` its hospital or scanner, where the source states it; `near_groups` a number that nearly equal
    cells of two specimens share, -1 of no group.
    """

    labels: Int[np.ndarray, " n"]
    specimens: Specimens
    digests: Shaped[np.ndarray, " n"]
    predefined_split: Shaped[np.ndarray, " n"] | None = None
    sites: Shaped[np.ndarray, " n"] | None = None
    near_groups: Int[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class SplitAudit:
    """How a split came about and what it contains; stored with a run.

    `by` is what assigned the cells to parts: this module, by specimen or site, or the source. `seed`, `shares` and
    `val_limit` are those of the settings, `flags_seed` is the run's. `train_available` counts training cells before the
    flag_limit. `test_sites` and `held_out_fold` are what was held out, where the rule states it.
    `near_copies_of_test_crops` are in the parts; `left_out_as_near_copies` are not, by `data.split.near_copies`. Both
    are None if there are none.
    """

    by: Literal["specimen", "site", "cell", "source"]
    seed: int
    shares: dict[str, float] | None
    flag_limit: int
    flags_seed: int
    val_limit: int
    specimens: dict[str, int]  # by part
    specimens_in_two_parts: int
    copies_of_test_crops_removed: dict[str, int]  # by part
    cells: dict[str, dict[str, int]]  # by part and class
    train_available: dict[str, int]  # by class
    test_sites: list[str] | None = None
    held_out_fold: HeldOutFold | None = None
    near_copies_of_test_crops: dict[str, int] | None = None  # by part
    left_out_as_near_copies: dict[str, LeftOut] | None = None  # by part

    def as_json(self) -> Json:
        """The audit as a run's record stores it."""
        optional = ("test_sites", "held_out_fold", "near_copies_of_test_crops", "left_out_as_near_copies")
        return {key: value for key, value in asdict(self).items() if value is not None or key not in optional}


@dataclass(frozen=True)
class Split:
    """Cell indices of the three parts, and the audit that is stored with a run."""

    train: Int[np.ndarray, " n_train"]
    validation: Int[np.ndarray, " n_validation"]
    test: Int[np.ndarray, " n_test"]
    audit: SplitAudit


class Splitter(ABC):
    """A rule that assigns cells to parts; the parts depend on its settings only, not on flag_limit or the run's seed.

    `val_limit` is the most validation cells a class. `drop_classes` are left out of the study. `near_copies` decides
    about training and validation cells that nearly equal a test cell of another specimen: they are kept, left out, or
    left out with all cells of their specimens. A rule that divides specimens declares it; otherwise a specimen in
    two parts is an error.
    """

    seed: int
    val_share: float
    val_limit: int
    drop_classes: Sequence[str]
    near_copies: NearCopies
    _name: ClassVar[str]  # as data.split
    _by: ClassVar[Literal["specimen", "site", "cell"]]
    divides_specimens: ClassVar[bool] = False
    _follows_source: ClassVar[bool] = False  # takes a split that the source states in place of its own

    def _check_limits(self) -> None:
        if self.val_limit < 1 or self.seed < 0:
            raise ValueError(
                f"data.split.val_limit must be >= 1 and seed >= 0, but got {self.val_limit} and {self.seed}"
            )
        if self.near_copies == "drop_specimens" and self.divides_specimens:
            raise ValueError(
                f"data.split.near_copies must be keep or drop_cells with data.split={self._name}, which puts cells of "
                f"one specimen into several parts, but got {self.near_copies}"
            )
        if isinstance(self.drop_classes, str):  # its letters would be the classes
            raise ValueError(f"data.split.drop_classes must be a list of names, but got {self.drop_classes!r}")

    @property
    @abstractmethod
    def _shares(self) -> dict[str, float]:
        """The shares of the specimens that are held out, by part."""

    @property
    def held_out_sites(self) -> list[str] | None:
        return None

    @property
    def held_out_fold(self) -> HeldOutFold | None:
        return None

    @abstractmethod
    def _assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        """The labelled cells of each part; raises ValueError if specimens are too few."""

    def keep(self, classes: Sequence[str]) -> list[str]:
        """The classes of the study; raises ValueError if a dropped one is unknown or fewer than two are left."""
        unknown = sorted(set(self.drop_classes) - set(classes))
        kept = [name for name in classes if name not in self.drop_classes]
        if unknown or len(kept) < 2:
            raise ValueError(
                f"data.split.drop_classes must name classes of {list(classes)} and leave two, "
                f"but got {list(self.drop_classes)}"
            )
        return kept

    def assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        """The labelled cells of each part, before copies leave and limits are taken.

        Raises ValueError if specimens are too few, a specimen is in two parts, or the source's own split stands
        against this rule.
        """
        predefined = cells.predefined_split is not None
        if predefined and not self._follows_source:
            raise ValueError(
                f"the source states a split of its own, which data.split={self._name} would not change: remove its "
                "column split, or leave data.split as it is"
            )
        parts = _predefined_parts(cells) if predefined else self._assign(cells, classes)
        shared = shared_specimens(parts, cells.specimens)
        if shared and not self.divides_specimens:
            raise ValueError(f"specimens in more than one part of the split: {shared[:20]}")
        return parts

    def split(self, cells: LabelledCells, classes: Sequence[str], flag_limit: int, seed: int = 0) -> Split:
        """Split cells and keep at most `flag_limit` training cells a class, each a prefix of one permutation.

        The permutation depends on the run's `seed`: seeds differ in which cells were annotated. Validation and test
        cells do not depend on it. Crops that are byte-identical to a test crop leave training and validation, and so
        do those that `near_copies` leaves out. Raises ValueError if specimens or cells are too few, or a specimen is in
        two parts.
        """
        if flag_limit < 1:
            raise ValueError(f"flag_limit must be >= 1, but got {flag_limit}")
        labels = cells.labels
        predefined = cells.predefined_split is not None
        parts = self.assign(cells, classes)
        copies = {name: find_copies(cells.digests[parts[name]], cells.digests[parts["test"]]) for name in PARTS[:2]}
        left_out = {name: self._left_out(cells, parts[name], parts["test"], copy) for name, copy in copies.items()}
        available = {name: parts[name][~copy & ~left_out[name]] for name, copy in copies.items()}
        kept = {
            "train": prefix_of_each_class(available["train"], labels, len(classes), flag_limit, [self.seed, seed]),
            "validation": prefix_of_each_class(
                available["validation"], labels, len(classes), self.val_limit, [self.seed, 0]
            ),
            "test": parts["test"],
        }
        self._check_classes(kept, labels, classes, predefined)
        audit = SplitAudit(
            by="source" if predefined else self._by,
            seed=self.seed,
            shares=None if predefined else self._shares,
            flag_limit=flag_limit,
            flags_seed=seed,
            val_limit=self.val_limit,
            specimens={name: len(pd.unique(cells.specimens[index])) for name, index in kept.items()},
            specimens_in_two_parts=len(shared_specimens(kept, cells.specimens)),
            copies_of_test_crops_removed={name: int(copy.sum()) for name, copy in copies.items()},
            cells={name: counts_by_class(labels[index], classes) for name, index in kept.items()},
            train_available=counts_by_class(labels[available["train"]], classes),
            test_sites=self.held_out_sites,
            held_out_fold=self.held_out_fold,
            near_copies_of_test_crops=None if cells.near_groups is None else count_near_copies(cells.near_groups, kept),
            left_out_as_near_copies=count_left_out(
                {name: parts[name][near] for name, near in left_out.items()}, cells.specimens
            ),
        )
        return Split(audit=audit, **kept)

    def _left_out(
        self,
        cells: LabelledCells,
        part: Int[np.ndarray, " m"],
        test: Int[np.ndarray, " k"],
        copies: Bool[np.ndarray, " m"],
    ) -> Bool[np.ndarray, " m"]:
        """The cells of a part that `near_copies` leaves out, beside the copies of test crops."""
        groups = cells.near_groups
        near = np.zeros(len(part), bool) if groups is None else find_near_copies(groups[part], groups[test])
        return find_dropped(near, copies, part, cells.specimens, self.near_copies)

    def _check_classes(
        self,
        parts: dict[str, Int[np.ndarray, " m"]],
        labels: Int[np.ndarray, " n"],
        classes: Sequence[str],
        given: bool,
    ) -> None:
        """Raise ValueError if a class has no cell in one of the parts; `given` parts are those of the source."""
        for part, index in parts.items():
            empty = [name for name, count in counts_by_class(labels[index], classes).items() if not count]
            if empty:
                why = _WITHOUT_CELLS["source"] if given else self._without_cells(part)
                other = "" if self.near_copies == "keep" else ", or another data.split.near_copies than "
                other += self.near_copies if other else ""
                raise ValueError(f"the {part} part has no cell of {empty}: {why}{self._drop(empty, classes)}{other}")

    def _without_cells(self, part: str) -> str:
        """Why this rule may leave a part without cells of a class, and what to change."""
        return _WITHOUT_CELLS[self._by]

    def _drop(self, names: Sequence[str], classes: Sequence[str]) -> str:
        """The advice to drop classes too, as it is typed; nothing if fewer than two would be left."""
        if len(classes) - len(names) < 2:
            return ""
        return f", or set {typed_list('data.split.drop_classes', [*self.drop_classes, *names])}"


_WITHOUT_CELLS = {
    "source": "the split that the source states (such as its column split) decides about each cell; change it there",
    **dict.fromkeys(
        ("specimen", "site"),
        "their specimens are too few or too unequal; try another data.split.seed, annotate more specimens",
    ),
    "cell": "they have too few cells, at least three that are no copies of each other are needed; annotate more",
}


def _predefined_parts(cells: LabelledCells) -> dict[str, Int[np.ndarray, " k"]]:
    """The labelled cells of each part, as the source's split states."""
    assert cells.predefined_split is not None
    labelled = np.flatnonzero(cells.labels >= 0)
    return {name: labelled[cells.predefined_split[labelled] == name] for name in PARTS}
