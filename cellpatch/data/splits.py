"""Train, validation and test by specimen or site; the flag_limit prefix; the audit."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from cellpatch.runtime.json_types import Json

PARTS = ("train", "validation", "test")
_DRAWS = 256  # of 303 specimens x 16 classes: 20 ms


@dataclass(frozen=True, eq=False)
class LabelledCells:
    """The cells to split, by column.

    `labels` index the classes; cells labelled -1 are left out. `digests` are 16 bytes, equal for equal crops.
    `predefined_split` names each cell's part, where the source brings its own split; `sites` its hospital or scanner,
    where the source states it.
    """

    labels: Int[np.ndarray, " n"]
    specimens: Shaped[np.ndarray, " n"]
    digests: Shaped[np.ndarray, " n"]
    predefined_split: Shaped[np.ndarray, " n"] | None = None
    sites: Shaped[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class SplitAudit:
    """How a split came about and what it contains; stored with a run.

    `by` is what assigned the cells to parts: this module, by specimen or site, or the source. `seed`, `shares` and
    `val_limit` are those of the settings, `flags_seed` is the run's. `train_available` counts training cells before the
    flag_limit. `test_sites` are those that were held out.
    """

    by: Literal["specimen", "site", "source"]
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

    def as_json(self) -> Json:
        """The audit as a run's record stores it."""
        stored = asdict(self)
        if self.test_sites is None:
            del stored["test_sites"]
        return stored


@dataclass(frozen=True)
class Split:
    """Cell indices of the three parts, and the audit that is stored with a run."""

    train: Int[np.ndarray, " n_train"]
    validation: Int[np.ndarray, " n_validation"]
    test: Int[np.ndarray, " n_test"]
    audit: SplitAudit


class Splitter(ABC):
    """A rule that assigns cells to parts; the parts depend on its settings only, not on flag_limit or the run's seed.

    `val_limit` is the most validation cells a class. `drop_classes` are left out of the study.
    """

    seed: int
    val_share: float
    val_limit: int
    drop_classes: Sequence[str]
    _by: ClassVar[Literal["specimen", "site"]]

    def _check_limits(self) -> None:
        if self.val_limit < 1 or self.seed < 0:
            raise ValueError(
                f"data.split.val_limit must be >= 1 and seed >= 0, but got {self.val_limit} and {self.seed}"
            )

    @property
    @abstractmethod
    def _shares(self) -> dict[str, float]:
        """The shares of the specimens that are held out, by part."""

    @property
    def _held_out_sites(self) -> list[str] | None:
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

    def split(self, cells: LabelledCells, classes: Sequence[str], flag_limit: int, seed: int = 0) -> Split:
        """Split cells and keep at most `flag_limit` training cells a class, each a prefix of one permutation.

        The permutation depends on the run's `seed`: seeds differ in which cells were annotated. Validation and test
        cells do not depend on it. Crops that are byte-identical to a test crop leave training and validation. Raises
        ValueError if specimens or cells are too few, or a specimen is in two parts.
        """
        if flag_limit < 1:
            raise ValueError(f"flag_limit must be >= 1, but got {flag_limit}")
        labels = cells.labels
        predefined = cells.predefined_split is not None
        parts = _predefined_parts(cells) if predefined else self._assign(cells, classes)
        shared = _shared_specimens(parts, cells.specimens)
        if shared:
            raise ValueError(f"specimens in more than one part of the split: {shared[:20]}")
        copies = {name: _copies(cells.digests[parts[name]], cells.digests[parts["test"]]) for name in PARTS[:2]}
        available = {name: parts[name][~copy] for name, copy in copies.items()}
        kept = {
            "train": _prefix(available["train"], labels, len(classes), flag_limit, [self.seed, seed]),
            "validation": _prefix(available["validation"], labels, len(classes), self.val_limit, [self.seed, 0]),
            "test": parts["test"],
        }
        _check_classes(kept, labels, classes)
        audit = SplitAudit(
            by="source" if predefined else self._by,
            seed=self.seed,
            shares=None if predefined else self._shares,
            flag_limit=flag_limit,
            flags_seed=seed,
            val_limit=self.val_limit,
            specimens={name: len(pd.unique(cells.specimens[index])) for name, index in kept.items()},
            specimens_in_two_parts=len(_shared_specimens(kept, cells.specimens)),
            copies_of_test_crops_removed={name: int(copy.sum()) for name, copy in copies.items()},
            cells={name: _counts(labels[index], classes) for name, index in kept.items()},
            train_available=_counts(labels[available["train"]], classes),
            test_sites=None if predefined else self._held_out_sites,
        )
        return Split(audit=audit, **kept)


@dataclass(frozen=True)
class BySpecimen(Splitter):
    """Split cells by specimen, stratified by class.

    `test_share` of the specimens are the test set, `val_share` validation (at least one each), the rest training.
    Raises ValueError if a share, limit or seed is out of range.
    """

    seed: int
    test_share: float
    val_share: float
    val_limit: int
    drop_classes: Sequence[str] = ()
    _by = "specimen"

    def __post_init__(self) -> None:
        if min(self.test_share, self.val_share) <= 0 or self.test_share + self.val_share >= 1:
            raise ValueError(
                f"data.split.test_share and val_share must be > 0 and leave a part for training, "
                f"but got {self.test_share} and {self.val_share}"
            )
        self._check_limits()

    @property
    def _shares(self) -> dict[str, float]:
        return {"test": self.test_share, "validation": self.val_share}

    def _assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        labelled, specimen, counts = _specimen_counts(cells, classes, np.flatnonzero(cells.labels >= 0), 3)
        everyone = np.arange(len(counts))
        test = _hold_out(counts, everyone, self.test_share, self.seed, leave=2)
        rest = np.setdiff1d(everyone, test)
        validation = _hold_out(counts, rest, self.val_share / (1 - self.test_share), self.seed, leave=1)
        train = np.setdiff1d(rest, validation)
        specimens = {"train": train, "validation": validation, "test": test}
        return {part: labelled[np.isin(everyone, members)[specimen]] for part, members in specimens.items()}


@dataclass(frozen=True)
class BySite(Splitter):
    """Test on the cells of whole sites (hospitals, scanners), train on the others; validation is by specimen there.

    `val_share` of the other sites' specimens are validation. Raises ValueError if the source states no sites, a site is
    unknown, none is left for training, or a share, limit or seed is out of range.
    """

    test_sites: Sequence[str]
    seed: int
    val_share: float
    val_limit: int
    drop_classes: Sequence[str] = ()
    _by = "site"

    def __post_init__(self) -> None:
        if not self.test_sites:
            raise ValueError("data.split.test_sites must name at least one site")
        if not 0 < self.val_share < 1:
            raise ValueError(
                f"data.split.val_share must be > 0 and leave a part for training, but got {self.val_share}"
            )
        self._check_limits()

    @property
    def _shares(self) -> dict[str, float]:
        return {"validation": self.val_share}

    @property
    def _held_out_sites(self) -> list[str]:
        return list(self.test_sites)

    def _assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        if cells.sites is None:
            raise ValueError("data.split=by_site needs a column site in the table of cells or of specimens")
        known = sorted({str(site) for site in cells.sites})
        unknown = [site for site in self.test_sites if site not in known]
        if unknown or set(known) == set(self.test_sites):
            raise ValueError(
                f"data.split.test_sites must name sites of {known} and leave one, but got {list(self.test_sites)}"
            )
        tested = np.isin(cells.sites.astype(str), list(self.test_sites))
        labelled = cells.labels >= 0
        others, specimen, counts = _specimen_counts(cells, classes, np.flatnonzero(labelled & ~tested), 2)
        everyone = np.arange(len(counts))
        validation = np.isin(everyone, _hold_out(counts, everyone, self.val_share, self.seed, leave=1))[specimen]
        return {
            "train": others[~validation],
            "validation": others[validation],
            "test": np.flatnonzero(labelled & tested),
        }


def _predefined_parts(cells: LabelledCells) -> dict[str, Int[np.ndarray, " k"]]:
    """The labelled cells of each part, as the source's split says."""
    assert cells.predefined_split is not None
    labelled = np.flatnonzero(cells.labels >= 0)
    return {name: labelled[cells.predefined_split[labelled] == name] for name in PARTS}


def _specimen_counts(
    cells: LabelledCells, classes: Sequence[str], members: Int[np.ndarray, " m"], parts: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, "specimens classes"]]:
    """Some cells, each one's specimen by number, and each specimen's cells by class.

    Raises ValueError if there are fewer specimens than `parts`, over all or of a class.
    """
    specimen, names = pd.factorize(cells.specimens[members], sort=True)
    if len(names) < parts:
        raise ValueError(f"a split by specimen needs at least {parts} specimens, but got {len(names)}: {list(names)}")
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (specimen, cells.labels[members]), 1)
    needing = "train, validation and test need" if parts == 3 else "train and validation need"
    for name, column in zip(classes, counts.T, strict=True):
        if (column > 0).sum() < parts:
            raise ValueError(
                f"class {name!r} has {column.sum()} cells in {(column > 0).sum()} specimens, but {needing} one "
                f"specimen each: annotate more or set data.split.drop_classes=[{name}]"
            )
    return members, specimen, counts


def _copies(digests: Shaped[np.ndarray, " m"], others: Shaped[np.ndarray, " k"]) -> Bool[np.ndarray, " m"]:
    """Which digests of 16 bytes are among `others`: first by 8 bytes in a hash table, then the matches by all 16."""
    first, first_of_others = (array.view(np.uint64).reshape(-1, 2)[:, 0] for array in (digests, others))
    equal = pd.Series(first).isin(first_of_others).to_numpy(copy=True)
    equal[equal] = np.isin(digests[equal], others)
    return equal


def _hold_out(
    counts: Int[np.ndarray, "specimens classes"], members: Int[np.ndarray, " m"], share: float, seed: int, leave: int
) -> Int[np.ndarray, " k"]:
    """Of many random draws of a share of the specimens, the one whose share is nearest to it in every class.

    A draw that lacks a class, or leaves fewer than `leave` specimens of one, is taken only if all draws do.
    StratifiedGroupKFold of scikit-learn does not serve: it sorts the groups, so its seed decides between equal groups
    only (seeds 0 and 1 gave the same parts of 20 specimens).
    """
    from sklearn.model_selection import ShuffleSplit  # a second to import, and preparing a store splits nothing

    draws = [members[drawn] for _, drawn in ShuffleSplit(_DRAWS, test_size=share, random_state=seed).split(members)]
    total = counts[members].sum(axis=0)
    worst = [np.abs(counts[drawn].sum(axis=0) / total / share - 1)[total > 0].max() for drawn in draws]
    present = counts > 0
    held_out = [present[drawn].sum(axis=0) for drawn in draws]
    left = [present[members].sum(axis=0) - n for n in held_out]
    lost = [int(((n < 1) | (m < leave)).sum()) for n, m in zip(held_out, left, strict=True)]
    return draws[min(range(_DRAWS), key=lambda i: (lost[i], worst[i]))]


def _check_classes(
    parts: dict[str, Int[np.ndarray, " m"]], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> None:
    """Raise ValueError if a class has no cell in one of the parts."""
    for part, index in parts.items():
        empty = [name for name, count in _counts(labels[index], classes).items() if not count]
        if empty:
            raise ValueError(
                f"the {part} part has no cell of {empty}: their specimens are too few or too unequal; try another "
                f"data.split.seed, more specimens or data.split.drop_classes"
            )


def _shared_specimens(parts: dict[str, Int[np.ndarray, " m"]], specimens: Shaped[np.ndarray, " n"]) -> list[str]:
    """The specimens that are in more than one part."""
    train, validation, test = (set(pd.unique(specimens[parts[name]])) for name in PARTS)
    return sorted(map(str, (train & validation) | (train & test) | (validation & test)))


def _prefix(
    index: Int[np.ndarray, " m"], labels: Int[np.ndarray, " n"], n_classes: int, limit: int, seeds: list[int]
) -> Int[np.ndarray, " k"]:
    """The first `limit` cells of each class in one permutation, so that a smaller limit is inside a larger."""
    kept = []
    for code in range(n_classes):
        members = index[labels[index] == code]
        order = np.random.default_rng([seeds[0], code, *seeds[1:]]).permutation(len(members))
        kept.append(members[order[:limit]])
    return np.sort(np.concatenate(kept))


def _counts(labels: Int[np.ndarray, " m"], classes: Sequence[str]) -> dict[str, int]:
    """Cells of each class."""
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}
