"""Train, validation and test by specimen; the flag_limit prefix; the audit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

PARTS = ("train", "validation", "test")
_DRAWS = 256  # 303 specimens x 16 classes: 20 ms


@dataclass(frozen=True)
class Split:
    """Cell indices of the three parts, and the audit that is stored with a run."""

    train: Int[np.ndarray, " n_train"]
    validation: Int[np.ndarray, " n_validation"]
    test: Int[np.ndarray, " n_test"]
    audit: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BySpecimen:
    """Split cells by specimen, stratified by class.

    `test_share` of the specimens are the test set, `val_share` validation (at least one each), the rest
    training; they depend on `seed` only. `val_limit` caps validation cells a class, `drop_classes` leaves
    classes out of the study.
    """

    seed: int
    test_share: float
    val_share: float
    val_limit: int
    drop_classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if min(self.test_share, self.val_share) <= 0 or self.test_share + self.val_share >= 1:
            raise ValueError(
                f"data.split.test_share and val_share must be > 0 and leave a part for training, "
                f"but got {self.test_share} and {self.val_share}"
            )
        if self.val_limit < 1 or self.seed < 0:
            raise ValueError(
                f"data.split.val_limit must be >= 1 and seed >= 0, but got {self.val_limit} and {self.seed}"
            )

    def keep(self, classes: Sequence[str]) -> list[str]:
        """The classes of the study; raises ValueError if one to drop is unknown or fewer than two are left."""
        unknown = sorted(set(self.drop_classes) - set(classes))
        kept = [name for name in classes if name not in self.drop_classes]
        if unknown or len(kept) < 2:
            raise ValueError(
                f"data.split.drop_classes must name classes of {list(classes)} and leave two, "
                f"but got {list(self.drop_classes)}"
            )
        return kept

    def split(
        self,
        labels: Int[np.ndarray, " n"],
        specimens: Shaped[np.ndarray, " n"],
        digests: Shaped[np.ndarray, " n"],
        classes: Sequence[str],
        flag_limit: int,
        given: Shaped[np.ndarray, " n"] | None = None,
        seed: int = 0,
    ) -> Split:
        """Split cells and keep at most `flag_limit` training cells a class, each a prefix of one permutation.

        The permutation is of the run's `seed`, so that seeds differ in which cells were annotated; validation
        and test cells do not depend on it. Labels index `classes`; cells labelled -1 are left out. `given`
        names each cell's part where the source brings its own split. Crops byte-identical (`digests`) to a
        test crop leave training and validation. Raises ValueError if specimens or cells are too few, or a
        specimen lies in two parts.
        """
        if flag_limit < 1:
            raise ValueError(f"flag_limit must be >= 1, but got {flag_limit}")
        kept = np.flatnonzero(labels >= 0)
        if given is None:
            parts = self._assign(kept, labels, specimens, classes)
        else:
            parts = {name: kept[given[kept] == name] for name in PARTS}
        shared = _shared_specimens(parts, specimens)
        if shared:
            raise ValueError(f"specimens in more than one part of the split: {shared[:20]}")
        copies = {name: _copies(digests[parts[name]], digests[parts["test"]]) for name in PARTS[:2]}
        clean = {name: parts[name][~copy] for name, copy in copies.items()}
        limits = {"train": (flag_limit, seed), "validation": (self.val_limit, 0)}
        picked = {
            name: _prefix(clean[name], labels, len(classes), limit, [self.seed, drawn])
            for name, (limit, drawn) in limits.items()
        }
        final = picked | {"test": parts["test"]}
        _check_classes(final, labels, classes)
        audit = {
            "by": "specimen" if given is None else "source",
            "seed": self.seed,
            "shares": None if given is not None else {"test": self.test_share, "validation": self.val_share},
            "flag_limit": flag_limit,
            "flags_seed": seed,
            "val_limit": self.val_limit,
            "specimens": {name: len(pd.unique(specimens[index])) for name, index in final.items()},
            "specimens_in_two_parts": len(_shared_specimens(final, specimens)),
            "copies_of_test_crops_removed": {name: int(copy.sum()) for name, copy in copies.items()},
            "cells": {name: _counts(labels[index], classes) for name, index in final.items()},
            "train_available": _counts(labels[clean["train"]], classes),
        }
        return Split(audit=audit, **final)

    def _assign(
        self,
        kept: Int[np.ndarray, " m"],
        labels: Int[np.ndarray, " n"],
        specimens: Shaped[np.ndarray, " n"],
        classes: Sequence[str],
    ) -> dict[str, Int[np.ndarray, " k"]]:
        group, names = pd.factorize(specimens[kept], sort=True)
        if len(names) < 3:
            raise ValueError(f"a split by specimen needs at least 3 specimens, but got {len(names)}: {list(names)}")
        table = np.zeros((len(names), len(classes)), np.int64)
        np.add.at(table, (group, labels[kept]), 1)
        for name, column in zip(classes, table.T, strict=True):
            if (column > 0).sum() < 3:
                raise ValueError(
                    f"class {name!r} has {column.sum()} cells in {(column > 0).sum()} specimens, but train, validation "
                    f"and test need one specimen each: annotate more or set data.split.drop_classes=[{name}]"
                )
        everyone = np.arange(len(names))
        test = _hold_out(table, everyone, self.test_share, self.seed, leave=2)
        rest = np.setdiff1d(everyone, test)
        validation = _hold_out(table, rest, self.val_share / (1 - self.test_share), self.seed, leave=1)
        train = np.setdiff1d(rest, validation)
        groups = {"train": train, "validation": validation, "test": test}
        return {part: kept[np.isin(everyone, members)[group]] for part, members in groups.items()}


def _copies(digests: Shaped[np.ndarray, " m"], others: Shaped[np.ndarray, " k"]) -> Bool[np.ndarray, " m"]:
    """Which digests of 16 bytes are among others: by their first 8 in a table, and of the few alike by all."""
    first, their_first = (each.view(np.uint64).reshape(-1, 2)[:, 0] for each in (digests, others))
    alike = pd.Series(first).isin(their_first).to_numpy(copy=True)
    alike[alike] = np.isin(digests[alike], others)
    return alike


def _hold_out(
    table: Int[np.ndarray, "specimens classes"], members: Int[np.ndarray, " m"], share: float, seed: int, leave: int
) -> Int[np.ndarray, " k"]:
    """Of many random draws of a share of the specimens, the one that is nearest to that share in every class.

    Draws that hold no specimen of a class, or leave fewer than `leave`, are taken only if there is no other.
    scikit-learn's StratifiedGroupKFold sorts the groups, so its seed decides between equal groups only: seeds
    0 and 1 gave the same parts of 20 specimens. Drawing keeps the seed's meaning.
    """
    from sklearn.model_selection import ShuffleSplit  # a second to import, and preparing a store splits nothing

    draws = [members[drawn] for _, drawn in ShuffleSplit(_DRAWS, test_size=share, random_state=seed).split(members)]
    total = table[members].sum(axis=0)
    worst = [np.abs(table[drawn].sum(axis=0) / total / share - 1)[total > 0].max() for drawn in draws]
    present = table > 0
    held = [present[drawn].sum(axis=0) for drawn in draws]
    left = [present[members].sum(axis=0) - n for n in held]
    lost = [int(((n < 1) | (m < leave)).sum()) for n, m in zip(held, left, strict=True)]
    return draws[min(range(_DRAWS), key=lambda i: (lost[i], worst[i]))]


def _check_classes(
    parts: dict[str, Int[np.ndarray, " m"]], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> None:
    for part, index in parts.items():
        counts = np.bincount(labels[index], minlength=len(classes))
        empty = [name for name, count in zip(classes, counts, strict=True) if not count]
        if empty:
            raise ValueError(
                f"the {part} part has no cell of {empty}: their specimens are too few or too unequal; try another "
                f"data.split.seed, more specimens or data.split.drop_classes"
            )


def _shared_specimens(parts: dict[str, Int[np.ndarray, " m"]], specimens: Shaped[np.ndarray, " n"]) -> list[str]:
    each = [set(pd.unique(specimens[index])) for index in parts.values()]
    return sorted(map(str, (each[0] & each[1]) | (each[0] & each[2]) | (each[1] & each[2])))


def _prefix(
    index: Int[np.ndarray, " m"], labels: Int[np.ndarray, " n"], n_classes: int, limit: int, seeds: list[int]
) -> Int[np.ndarray, " k"]:
    """The first `limit` cells of each class in one permutation, so that a smaller limit is inside a larger."""
    picked = []
    for code in range(n_classes):
        members = index[labels[index] == code]
        order = np.random.default_rng([seeds[0], code, *seeds[1:]]).permutation(len(members))
        picked.append(members[order[:limit]])
    return np.sort(np.concatenate(picked))


def _counts(labels: Int[np.ndarray, " m"], classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}
