import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cellpatch.config.schema import compose_config
from cellpatch.config.validate import check
from cellpatch.data.specimens import number_specimens, shared_specimens
from cellpatch.data.split_copies import LeftOut, NearCopies
from cellpatch.data.splits import ByCell, BySite, BySpecimen, KFold
from cellpatch.data.splitter import LabelledCells, Split
from cellpatch.runtime.typed import typed_list

CLASSES = ["a", "b", "c"]


def _world(n: int = 600, specimens: int = 20, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    return {
        "labels": labels,
        "specimens": np.array([f"s{i}" for i in rng.integers(0, specimens, n)]),
        "digests": np.arange(n).astype("S16"),
        "classes": CLASSES,
    }


def _split(flag_limit: int = 50, world: dict[str, Any] | None = None, **changes: Any) -> Split:
    settings: dict[str, Any] = {"seed": 0, "test_share": 0.2, "val_share": 0.2, "val_limit": 1000, "drop_classes": ()}
    world = world or _world()
    return BySpecimen(**settings | changes).split(_cells(world), world["classes"], flag_limit)


def _cells(world: dict[str, Any], predefined_split: np.ndarray | None = None) -> LabelledCells:
    return LabelledCells(world["labels"], world["specimens"], world["digests"], predefined_split)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), world_seed=st.integers(0, 50), limit=st.integers(1, 300))
def test_no_specimen_straddles_and_every_limit_holds(seed: int, world_seed: int, limit: int) -> None:
    world = _world(seed=world_seed)
    split = _split(limit, world, seed=seed)
    parts = [set(world["specimens"][index]) for index in (split.train, split.validation, split.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    counts = np.bincount(world["labels"][split.train], minlength=3)
    assert (counts <= limit).all()
    available = list(split.audit.train_available.values())
    assert counts.tolist() == [min(limit, n) for n in available] == list(split.audit.cells["train"].values())


@settings(max_examples=20)
@given(small=st.integers(1, 100), more=st.integers(0, 200), seed=st.integers(0, 100))
def test_a_smaller_limit_is_inside_a_larger(small: int, more: int, seed: int) -> None:
    a, b = _split(small, seed=seed), _split(small + more, seed=seed)
    assert set(a.train) <= set(b.train)
    np.testing.assert_array_equal(a.test, b.test)
    np.testing.assert_array_equal(a.validation, b.validation)


def test_another_seed_is_another_split() -> None:
    assert set(_split(seed=0).test) != set(_split(seed=1).test)
    np.testing.assert_array_equal(_split(seed=1).train, _split(seed=1).train)


def test_parts_are_stratified() -> None:
    world = _world(6000, 60)
    split = _split(10_000, world)
    for index in (split.train, split.validation, split.test):
        shares = np.bincount(world["labels"][index], minlength=3) / len(index)
        np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], rtol=0.25)
    assert len(split.test) == pytest.approx(1200, rel=0.1)


def test_copies_of_test_crops_leave_training_and_validation() -> None:
    world = _world()
    clean = _split(1000, world)
    copied = world["digests"].copy()
    copied[clean.train[:3]] = copied[clean.test[0]]
    copied[clean.validation[:2]] = copied[clean.test[1]]
    split = _split(1000, world | {"digests": copied})
    assert set(clean.train) - set(split.train) == set(clean.train[:3])
    assert set(clean.validation) - set(split.validation) == set(clean.validation[:2])
    np.testing.assert_array_equal(split.test, clean.test)
    assert split.audit.copies_of_test_crops_removed == {"train": 3, "validation": 2}


@pytest.mark.parametrize("near_copies", ["keep", "drop_specimens"])
def test_names_as_categories_give_the_same_split(near_copies: NearCopies) -> None:
    world = _world()
    cells = replace(_cells(world), near_groups=np.where(np.arange(600) < 12, np.arange(600) // 2, -1))
    names = pd.Categorical(world["specimens"], sorted(set(world["specimens"])))
    rules = [BySpecimen(0, 0.2, 0.2, 1000, (), near_copies), KFold(1, 4, 0, 0.2, 1000, (), near_copies)]
    for rule in rules:
        expected = rule.split(cells, CLASSES, 50)
        found = rule.split(replace(cells, specimens=names), CLASSES, 50)
        assert found.audit == expected.audit
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_digests_that_end_in_zero_bytes_stay_apart() -> None:
    """numpy drops trailing zero bytes of S16 alike on both sides, so equality is unharmed."""
    world = _world()
    raw = [int(i).to_bytes(14, "big") + b"\0\0" for i in range(600)]
    assert _split(1000, world | {"digests": np.array(raw, "S16")}).audit.copies_of_test_crops_removed == {
        "train": 0,
        "validation": 0,
    }


def test_given_parts_are_kept_and_audited() -> None:
    world = _world(90, 90)
    world["labels"] = np.arange(90) % 3
    world["specimens"] = np.array([f"s{i}" for i in range(90)])
    given_parts = np.array(["train"] * 50 + ["validation"] * 20 + ["test"] * 20)
    split = BySpecimen(0, 0.2, 0.2, 1000).split(_cells(world, given_parts), CLASSES, 1000)
    assert (len(split.train), len(split.validation), len(split.test)) == (50, 20, 20)
    world["specimens"][55] = world["specimens"][0]
    with pytest.raises(ValueError, match=r"specimens in more than one part of the split: \['s0'\]"):
        BySpecimen(0, 0.2, 0.2, 1000).split(_cells(world, given_parts), CLASSES, 1000)


def test_the_audit_is_stored_with_these_keys() -> None:
    stored = _split(flag_limit=5).audit.as_json()
    assert list(stored) == [
        "by",
        "seed",
        "shares",
        "flag_limit",
        "flags_seed",
        "val_limit",
        "specimens",
        "specimens_in_two_parts",
        "copies_of_test_crops_removed",
        "cells",
        "train_available",
    ]
    assert (stored["by"], stored["shares"]) == ("specimen", {"test": 0.2, "validation": 0.2})
    assert stored["cells"]["train"] == {"a": 5, "b": 5, "c": 5}
    assert list(stored["specimens"]) == ["train", "validation", "test"]


def test_three_specimens_are_enough_and_two_are_not() -> None:
    world = _world(90)
    world["labels"] = np.arange(90) % 3
    world["specimens"] = np.array([f"s{i // 3 % 3}" for i in range(90)])
    split = _split(1000, world)
    assert split.audit.specimens == {"train": 1, "validation": 1, "test": 1}
    for few in (2, 1):
        world["specimens"] = np.array([f"s{i % few}" for i in range(90)])
        with pytest.raises(ValueError, match=f"needs at least 3 specimens, but got {few}"):
            _split(1000, world)


def test_one_specimen_spanning_nearly_everything() -> None:
    world = _world(90)
    world["labels"] = np.arange(90) % 3
    world["specimens"] = np.array(["huge"] * 84 + ["x", "x", "x", "y", "y", "y"])
    split = _split(1000, world)
    assert sorted(len(index) for index in (split.train, split.validation, split.test)) == [3, 3, 84]


def test_a_class_in_too_few_specimens_is_named() -> None:
    world = _world()
    rare = np.flatnonzero(world["labels"] == 2)
    world["specimens"] = world["specimens"].astype(object)
    world["specimens"][rare] = "s1"
    with pytest.raises(ValueError, match=r"class 'c' has \d+ cells in 1 specimens.*data.split.drop_classes=\[c\]"):
        _split(50, world)


@pytest.mark.parametrize("seed", range(8))
def test_a_class_in_just_three_specimens_reaches_every_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.integers(0, 2, 400), np.full(11, 2)])
    specimens = np.concatenate([[f"s{i}" for i in rng.integers(0, 10, 400)], ["s1"] * 5, ["s4"] * 5, ["s7"]])
    world = {"labels": labels, "specimens": specimens, "digests": np.arange(411).astype("S16"), "classes": CLASSES}
    split = _split(50, world, seed=seed)
    assert all(split.audit.cells[part]["c"] for part in ("train", "validation", "test"))


def test_a_class_lost_by_the_split_is_named() -> None:
    """Each class is in three specimens, but never in three that are its own."""
    labels = np.array([0] * 30 + [1] * 3 + [2] * 30)
    specimens = np.array([f"s{i % 3}" for i in range(30)] + ["s0", "s1", "s2"] + [f"s{i % 3}" for i in range(30)])
    world = {"labels": labels, "specimens": specimens, "digests": np.arange(63).astype("S16"), "classes": CLASSES}
    world["digests"][30:33] = b"same"
    with pytest.raises(ValueError, match=r"the (train|validation) part has no cell of \['b'\]"):
        _split(50, world)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_share": 0.8}, "must be > 0 and leave a part for training"),
        ({"val_share": 0.0}, "must be > 0 and leave a part for training"),
        ({"val_limit": 0}, "data.split.val_limit must be >= 1"),
        ({"flag_limit": 0}, "flag_limit must be >= 1, but got 0"),
    ],
)
def test_bad_settings(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _split(**changes)


def test_classes_can_be_dropped() -> None:
    assert BySpecimen(0, 0.2, 0.2, 10, ["b"]).keep(CLASSES) == ["a", "c"]
    with pytest.raises(ValueError, match="must name classes of"):
        BySpecimen(0, 0.2, 0.2, 10, ["z"]).keep(CLASSES)
    with pytest.raises(ValueError, match="leave two"):
        BySpecimen(0, 0.2, 0.2, 10, ["a", "b"]).keep(CLASSES)


def test_one_site_trains_and_another_is_tested() -> None:
    rng = np.random.default_rng(0)
    n = 400
    specimens = np.array([f"p{i:02d}" for i in rng.integers(0, 20, n)])
    sites = np.array([["north", "south", "east"][int(name[1:]) % 3] for name in specimens])
    digests = np.array([bytes(rng.integers(1, 256, 16, dtype=np.uint8)) for _ in range(n)], dtype="S16")
    cells = LabelledCells(rng.integers(0, 3, n), specimens, digests, sites=sites)
    split = BySite(["south"], 0, 0.2, 1000).split(cells, CLASSES, 1000)
    assert set(sites[split.test]) == {"south"}
    assert set(sites[split.train]) == set(sites[split.validation]) == {"north", "east"}
    assert len(split.test) == (sites == "south").sum()
    assert not set(specimens[split.train]) & set(specimens[split.validation])
    audit = split.audit.as_json()
    assert (audit["by"], audit["test_sites"], audit["shares"]) == ("site", ["south"], {"validation": 0.2})
    with pytest.raises(ValueError, match=r"test_sites must name sites of .'east', 'north', 'south'. and leave one"):
        BySite(["west"], 0, 0.2, 1000).split(cells, CLASSES, 1000)
    with pytest.raises(ValueError, match="must name sites of .* and leave one"):
        BySite(["east", "north", "south"], 0, 0.2, 1000).split(cells, CLASSES, 1000)
    with pytest.raises(ValueError, match="needs a column site in the table of cells or of specimens"):
        BySite(["south"], 0, 0.2, 1000).split(replace(cells, sites=None), CLASSES, 1000)
    with pytest.raises(ValueError, match="must name at least one site"):
        BySite([], 0, 0.2, 1000)


def test_cells_at_random_divide_specimens_and_say_so() -> None:
    rng = np.random.default_rng(0)
    n = 300
    digests = np.array([bytes(rng.integers(1, 256, 16, dtype=np.uint8)) for _ in range(n)], dtype="S16")
    labels = np.repeat([0, 1, 2], [200, 95, 5])
    cells = LabelledCells(labels, np.array([f"p{i % 7}" for i in range(n)]), digests)
    split = ByCell(0, 0.2, 0.2, 1000).split(cells, CLASSES, 1000)
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[120, 57, 3], [40, 19, 1], [40, 19, 1]]
    assert (split.audit.by, split.audit.specimens_in_two_parts) == ("cell", 7)
    again = ByCell(0, 0.2, 0.2, 1000).split(cells, CLASSES, 4, seed=3)
    np.testing.assert_array_equal(again.test, split.test)
    assert not np.array_equal(ByCell(1, 0.2, 0.2, 1000).split(cells, CLASSES, 1000).test, split.test)
    with pytest.raises(ValueError, match="leave a part for training"):
        ByCell(0, 0.5, 0.5, 1000)
    predefined = replace(cells, predefined_split=np.array(["train", "validation", "test"] * 100))
    for rule in (ByCell(0, 0.2, 0.2, 1000), BySite(["south"], 0, 0.2, 1000)):
        with pytest.raises(ValueError, match="the source states a split of its own, which data.split=by_"):
            rule.split(predefined, CLASSES, 1000)


def _near_world() -> LabelledCells:
    """The cells of `_world` and near groups: of ten test cells each, one cell of training and one of validation."""
    world = _world()
    plain = _split(1000, world)
    groups = np.full(len(world["labels"]), -1)
    for i in range(10):
        groups[[plain.test[i], plain.train[7 * i], plain.validation[i]]] = i
    groups[plain.train[[1, 2]]] = 10  # two training cells that nearly equal each other: no matter
    return replace(_cells(world), near_groups=groups)


def _both(cells: LabelledCells, near_copies: NearCopies, limit: int) -> tuple[Split, Split]:
    """The split of the cells as they are, and with the setting."""
    plain = BySpecimen(0, 0.2, 0.2, 1000)
    changed = replace(plain, near_copies=near_copies)
    return plain.split(cells, CLASSES, limit), changed.split(cells, CLASSES, limit)


def test_near_copies_of_test_cells_are_left_out_by_cell() -> None:
    cells = _near_world()
    assert cells.near_groups is not None
    kept, dropped = _both(cells, "drop_cells", 1000)
    np.testing.assert_array_equal(kept.test, dropped.test)
    near = np.flatnonzero((cells.near_groups >= 0) & (cells.near_groups < 10))
    np.testing.assert_array_equal(dropped.train, np.setdiff1d(kept.train, near))
    np.testing.assert_array_equal(dropped.validation, np.setdiff1d(kept.validation, near))
    assert kept.audit.near_copies_of_test_crops == {"train": 10, "validation": 10}
    assert kept.audit.left_out_as_near_copies is None
    assert "left_out_as_near_copies" not in kept.audit.as_json()
    assert dropped.audit.near_copies_of_test_crops is None
    specimens = [len(set(cells.specimens[np.intersect1d(part, near)])) for part in (kept.train, kept.validation)]
    assert dropped.audit.as_json()["left_out_as_near_copies"] == {
        "train": {"cells": 10, "specimens": specimens[0]},
        "validation": {"cells": 10, "specimens": specimens[1]},
    }


@settings(max_examples=20)
@given(limit=st.integers(1, 300))
def test_near_copies_leave_before_the_limit(limit: int) -> None:
    whole, limited = (_both(_near_world(), "drop_cells", each)[1] for each in (1000, limit))
    assert set(limited.train) <= set(whole.train)
    counts = list(limited.audit.cells["train"].values())
    assert counts == [min(limit, n) for n in limited.audit.train_available.values()]
    assert whole.audit.train_available == whole.audit.cells["train"]


def test_specimens_with_near_copies_are_left_out_whole() -> None:
    cells = _near_world()
    assert cells.near_groups is not None
    only = np.where(cells.near_groups == 3, 3, -1)
    validated = _both(cells, "keep", 1000)[0].validation
    only[validated] = -1  # one training cell is left
    digests = cells.digests.copy()
    tested = _both(cells, "keep", 1000)[0].test
    digests[validated[0]] = digests[tested[0]]
    kept, dropped = _both(replace(cells, near_groups=only, digests=digests), "drop_specimens", 1000)
    np.testing.assert_array_equal(kept.test, dropped.test)
    one = cells.specimens[kept.train[only[kept.train] == 3]]
    assert len(one) == 1
    np.testing.assert_array_equal(dropped.train, kept.train[cells.specimens[kept.train] != one[0]])
    copied = cells.specimens[validated[0]]
    np.testing.assert_array_equal(dropped.validation, kept.validation[cells.specimens[kept.validation] != copied])
    left_out = dropped.audit.left_out_as_near_copies
    assert left_out is not None
    of_specimen = [int((cells.specimens == name).sum()) for name in (one[0], copied)]
    assert left_out == {"train": LeftOut(of_specimen[0], 1), "validation": LeftOut(of_specimen[1] - 1, 1)}
    assert dropped.audit.copies_of_test_crops_removed == {"train": 0, "validation": 1}


def test_near_copies_of_other_rules() -> None:
    cells = _near_world()
    assert cells.near_groups is not None
    with pytest.raises(ValueError, match=r"near_copies must be keep or drop_cells with data.split=by_cell, .* but got"):
        ByCell(0, 0.2, 0.2, 1000, near_copies="drop_specimens")
    split = ByCell(0, 0.2, 0.2, 1000, near_copies="drop_cells").split(cells, CLASSES, 1000)
    tested = cells.near_groups[split.test]
    assert not np.isin(cells.near_groups[split.train], tested[tested >= 0]).any()
    plain = _both(cells, "keep", 1000)[0]
    given_parts = np.full(len(cells.labels), "validation")
    given_parts[plain.train], given_parts[plain.test] = "train", "test"
    own = BySpecimen(0, 0.2, 0.2, 1000, near_copies="drop_specimens")
    with pytest.raises(ValueError, match=r"has no cell of .*, or another data.split.near_copies than drop_specimens"):
        every = np.zeros(len(cells.labels), np.int64)
        own.split(replace(cells, predefined_split=given_parts, near_groups=every), CLASSES, 1000)
    few = replace(cells, predefined_split=given_parts, near_groups=np.where(cells.near_groups == 0, 0, -1))
    split = own.split(few, CLASSES, 1000)
    assert split.audit.by == "source"
    assert split.audit.left_out_as_near_copies is not None
    sites = np.where(np.isin(cells.specimens, np.unique(cells.specimens[plain.test])), "south", "north")
    split = BySite(["south"], 0, 0.2, 1000, near_copies="drop_cells").split(replace(cells, sites=sites), CLASSES, 1000)
    assert split.audit.left_out_as_near_copies is not None
    assert sum(each.cells for each in split.audit.left_out_as_near_copies.values()) == 20


def test_what_a_message_proposes_works_when_typed() -> None:
    """Classes called by numbers, in quotes where Hydra would read something else; earlier dropped ones stay dropped."""
    labels = np.repeat([0, 1, 2, 3], 30)
    specimens = np.array([f"s{i % 5}" for i in range(120)])
    specimens[90:] = "s1"
    cells = LabelledCells(labels, specimens, np.arange(120).astype("S16"))
    with pytest.raises(ValueError, match="annotate more, or set ") as caught:
        BySpecimen(0, 0.2, 0.2, 10, ["1.0", "x"]).split(cells, ["0", "1", "2", "3"], 5)
    [typed] = shlex.split(str(caught.value).partition(" or set ")[2])
    assert typed == 'data.split.drop_classes=["1.0",x,3]'
    values = check(compose_config(["model=cnn", typed])).values
    assert values["data"]["split"]["drop_classes"] == ["1.0", "x", "3"]
    with pytest.raises(ValueError, match="annotate more$"):  # a single class would be left
        BySpecimen(0, 0.2, 0.2, 10).split(replace(cells, labels=np.minimum(labels, 1)[::-1]), ["0", "1"], 5)


@given(st.lists(st.text(st.sampled_from("aB0 1.-_+'\"\\${}[](),:=#~é!@;*?&|<>/%^`"), min_size=1), min_size=1))
def test_any_names_are_typed_so_that_hydra_reads_them(names: list[str]) -> None:
    [typed] = shlex.split(typed_list("data.split.drop_classes", names))
    [override] = OverridesParser.create().parse_overrides([typed])
    read = OmegaConf.to_container(OmegaConf.create({"names": override.value()}), resolve=True)
    assert isinstance(read, dict)
    assert [str(name) for name in read["names"]] == names


def test_letters_of_a_text_are_no_classes() -> None:
    with pytest.raises(ValueError, match="drop_classes must be a list of names, but got '10'"):
        BySpecimen(0, 0.2, 0.2, 10, "10")
    with pytest.raises(ValueError, match="test_sites must name at least one site, as a list, but got 'ab'"):
        BySite("ab", 0, 0.2, 10)


def test_the_advice_fits_the_way_of_the_split() -> None:
    world = _world(90)
    world["labels"] = np.arange(90) % 3
    world["specimens"] = np.array([f"s{i}" for i in range(90)])
    parts = np.array(["train"] * 50 + ["validation"] * 20 + ["test"] * 20)
    parts[(world["labels"] == 2) & (parts == "test")] = "train"
    with pytest.raises(
        ValueError, match=r"test part has no cell of \['c'\]: the split that the source states"
    ) as given:
        BySpecimen(0, 0.2, 0.2, 1000).split(_cells(world, parts), CLASSES, 1000)
    world["labels"] = np.array([0, 1] * 44 + [2, 2])
    with pytest.raises(ValueError, match="they have too few cells, at least three") as by_cell:
        ByCell(0, 0.2, 0.2, 1000).split(_cells(world), CLASSES, 1000)
    sites = replace(_cells(world), sites=np.where(np.arange(90) < 20, "north", "south"))
    with pytest.raises(
        ValueError, match=r"the sites \['north'\] have none; choose other data.split.test_sites"
    ) as by_site:
        BySite(["north"], 0, 0.5, 1000).split(sites, CLASSES, 1000)
    assert not any("data.split.seed" in str(each.value) for each in (given, by_cell, by_site))


@settings(max_examples=100)
@given(
    names=st.lists(st.sampled_from([f"s{i:03}" for i in range(200)]), min_size=1, max_size=300),
    chosen=st.lists(st.booleans(), min_size=300, max_size=300),
)
def test_specimens_as_names_and_as_categories_are_numbered_equally(names: list[str], chosen: list[bool]) -> None:
    members = np.flatnonzero(chosen[: len(names)])
    as_names = np.array(names)
    categories = pd.Categorical(names, categories=sorted({*names, *(f"s{i:03}" for i in range(300))}))
    for specimens in (as_names, categories, pd.Categorical(names)):
        numbers, found = number_specimens(specimens, members)
        assert list(found) == sorted(set(as_names[members]))
        assert list(np.asarray(found)[numbers]) == list(as_names[members])
        parts = {"train": members, "test": np.flatnonzero(~np.array(chosen[: len(names)]))}
        both = {*as_names[parts["train"]]} & {*as_names[parts["test"]]}
        assert shared_specimens(parts, specimens) == sorted(both)
