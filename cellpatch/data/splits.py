"""Train, validation and test by specimen, in folds, by site or by cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cellpatch.data.specimens import number_specimens
from cellpatch.data.split_copies import NearCopies
from cellpatch.data.split_draws import assign_folds, hold_out
from cellpatch.data.splitter import HeldOutFold, LabelledCells, Splitter

MAX_FOLDS = 100  # a fold is a training of each model
_THREE_NEED = "train, validation and test need"


@dataclass(frozen=True)
class _ByShares(Splitter):
    """A rule that holds out `test_share` for the test set and `val_share` for validation; the rest is training."""

    seed: int
    test_share: float
    val_share: float
    val_limit: int
    drop_classes: Sequence[str] = ()
    near_copies: NearCopies = "keep"

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


@dataclass(frozen=True)
class BySpecimen(_ByShares):
    """Split cells by specimen, stratified by class.

    `test_share` of the specimens are the test set, `val_share` validation (at least one each), the rest training.
    Raises ValueError if a share, limit or seed is out of range.
    """

    _name, _by = "by_specimen", "specimen"
    _follows_source = True

    def _assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        labelled, specimen, counts = _specimen_counts(
            cells, classes, np.flatnonzero(cells.labels >= 0), 3, self._drop, _THREE_NEED
        )
        everyone = np.arange(len(counts))
        test = hold_out(counts, everyone, self.test_share, self.seed, leave=2)
        rest = np.setdiff1d(everyone, test)
        validation = hold_out(counts, rest, self.val_share / (1 - self.test_share), self.seed, leave=1)
        train = np.setdiff1d(rest, validation)
        specimens = {"train": train, "validation": validation, "test": test}
        return {part: labelled[np.isin(everyone, members)[specimen]] for part, members in specimens.items()}


@dataclass(frozen=True)
class KFold(Splitter):
    """Test on one of several folds of specimens, stratified by class: over all folds each specimen is tested once.

    Folds count from 0. `val_share` of the other folds' specimens are validation (at least one), the rest training.
    Raises ValueError if there are fewer than two folds, the fold is none of them, or a share, limit or seed is out of
    range.
    """

    fold: int
    folds: int
    seed: int
    val_share: float
    val_limit: int
    drop_classes: Sequence[str] = ()
    near_copies: NearCopies = "keep"
    _name, _by = "kfold", "specimen"

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= MAX_FOLDS:
            raise ValueError(f"data.split.folds must be 2 to {MAX_FOLDS}, but got {self.folds}")
        _ = self.held_out_fold
        _check_share_of_others(self.val_share)
        self._check_limits()

    @property
    def _shares(self) -> dict[str, float]:
        return {"test": 1 / self.folds, "validation": self.val_share * (1 - 1 / self.folds)}

    @property
    def held_out_fold(self) -> HeldOutFold:
        return HeldOutFold(self.fold, self.folds)

    def _without_cells(self, part: str) -> str:
        return f"{super()._without_cells(part)}, or try fewer data.split.folds than {self.folds}"

    def _assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        needing = f"{self.folds} folds need" if self.folds > 2 else _THREE_NEED
        labelled, specimen, counts = _specimen_counts(
            cells, classes, np.flatnonzero(cells.labels >= 0), max(self.folds, 3), self._drop, needing
        )
        everyone = np.arange(len(counts))
        test = assign_folds(cells.labels[labelled], specimen, self.folds, self.seed) == self.fold
        rest = np.unique(specimen[~test])
        validation = np.isin(everyone, hold_out(counts, rest, self.val_share, self.seed, leave=1))[specimen]
        return {
            "train": labelled[~test & ~validation],
            "validation": labelled[validation],
            "test": labelled[test],
        }


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
    near_copies: NearCopies = "keep"
    _name, _by = "by_site", "site"

    def __post_init__(self) -> None:
        if not self.test_sites or isinstance(self.test_sites, str):
            raise ValueError(
                f"data.split.test_sites must name at least one site, as a list, but got {self.test_sites!r}"
            )
        _check_share_of_others(self.val_share)
        self._check_limits()

    @property
    def _shares(self) -> dict[str, float]:
        return {"validation": self.val_share}

    def _without_cells(self, part: str) -> str:
        if part == "test":
            return f"the sites {self.held_out_sites} have none; choose other data.split.test_sites"
        return super()._without_cells(part)

    @property
    def held_out_sites(self) -> list[str]:
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
        others, specimen, counts = _specimen_counts(
            cells, classes, np.flatnonzero(labelled & ~tested), 2, self._drop, "train and validation need"
        )
        everyone = np.arange(len(counts))
        validation = np.isin(everyone, hold_out(counts, everyone, self.val_share, self.seed, leave=1))[specimen]
        return {
            "train": others[~validation],
            "validation": others[validation],
            "test": np.flatnonzero(labelled & tested),
        }


@dataclass(frozen=True)
class ByCell(_ByShares):
    """Split cells at random, stratified by class: a specimen's cells are in training and test, and scores too good.

    It is there to compare with studies that split so. `test_share` of each class are the test set, `val_share`
    validation (at least one cell each), the rest training. Raises ValueError if a share, limit or seed is out of range,
    and for `near_copies` drop_specimens.
    """

    _name, _by = "by_cell", "cell"
    divides_specimens = True

    def _assign(self, cells: LabelledCells, classes: Sequence[str]) -> dict[str, Int[np.ndarray, " k"]]:
        parts: dict[str, list[Int[np.ndarray, " k"]]] = {"train": [], "validation": [], "test": []}
        for code in range(len(classes)):
            members = np.random.default_rng([self.seed, code]).permutation(np.flatnonzero(cells.labels == code))
            n_test, n_val = (max(1, round(share * len(members))) for share in (self.test_share, self.val_share))
            for name, part in zip(
                ("test", "validation", "train"), np.split(members, [n_test, n_test + n_val]), strict=True
            ):
                parts[name].append(part)
        return {name: np.sort(np.concatenate(of_class)) for name, of_class in parts.items()}


def _check_share_of_others(val_share: float) -> None:
    """Raise ValueError for a share of the specimens outside the test set that leaves none to train or validate on."""
    if not 0 < val_share < 1:
        raise ValueError(f"data.split.val_share must be > 0 and leave a part for training, but got {val_share}")


def _specimen_counts(
    cells: LabelledCells,
    classes: Sequence[str],
    members: Int[np.ndarray, " m"],
    parts: int,
    drop: Callable[[Sequence[str], Sequence[str]], str],
    needing: str,
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, "specimens classes"]]:
    """Some cells, each one's specimen by number, and each specimen's cells by class.

    Raises ValueError if there are fewer specimens than `parts`, over all or of a class; `needing` names the parts,
    `drop` gives the advice to drop such classes.
    """
    specimen, names = number_specimens(cells.specimens, members)
    if len(names) < parts:
        raise ValueError(f"a split by specimen needs at least {parts} specimens, but got {len(names)}: {list(names)}")
    shape = (len(names), len(classes))
    places = specimen.astype(np.int32) * len(classes) + cells.labels[members]
    counts = np.bincount(places, minlength=np.prod(shape))
    counts = counts.reshape(shape)
    spread = dict(zip(classes, (counts > 0).sum(axis=0).tolist(), strict=True))
    few = [name for name in classes if spread[name] < parts]
    if few:
        cells_of = dict(zip(classes, counts.sum(axis=0).tolist(), strict=True))
        listed = ", ".join(f"class {name!r} has {cells_of[name]} cells in {spread[name]} specimens" for name in few)
        raise ValueError(f"{listed}, but {needing} one specimen each: annotate more{drop(few, classes)}")
    return members, specimen, counts
