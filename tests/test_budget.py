"""A training has a budget of updates: the same at every flag_limit, whatever ends it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import figure3
import numpy as np
import pandas as pd
import pytest
from caveats import caveats
from conftest import config_of
from hypothesis import given
from hypothesis import strategies as st
from simulated import restated, simulated
from stored import read_record, replace_record

from cellpatch.analysis.groups import group_by_seed
from cellpatch.cli import runs
from cellpatch.config.assemble import assemble
from cellpatch.data.batch_indices import BatchIndices
from cellpatch.figures.captions import best_validation_caption, sample_size_caption
from cellpatch.inference.restore import restore
from cellpatch.metrics.validations import best_validation, count_best_validations
from cellpatch.runs.identity import effective_settings, identity
from cellpatch.runs.table import runs_table
from cellpatch.runtime.json_types import Json
from cellpatch.sweeps.train import train
from cellpatch.training.adaptation import Scratch
from cellpatch.training.budget import Budget, plan_budget
from cellpatch.training.trainer_settings import TrainerSettings

FolderMaker = Callable[..., Path]
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "model.recipe.lr=0.01"]
SMALL_CNN += ["adapt.batch_size=8", "adapt.patience=99"]
TRAINER: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "resume": False, "precision": None}
TRAINER |= {"enable_progress_bar": False}
RECIPE: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.0, "warmup": 0.1, "label_smoothing": 0.0}
RECIPE |= {"optimizer": "adamw", "adamw_rate": 1.0}
RECIPE |= {"balance": "none", "adjust_tau": 1.0, "focal_gamma": 0.0, "mixup": 0.0, "cutmix": 0.0}
RECIPE |= {"average_over": 1, "patience": 3}


def _train(tmp_path: Path, root: Path, *overrides: str) -> dict[str, Any]:
    return read_record(tmp_path / "runs" / train(config_of(tmp_path, root, *SMALL_CNN, *overrides)).run)


def _rounds(n: int, size: int, per_round: int | None, rounds: int, rank: int = 0, world: int = 1) -> list[list[Any]]:
    """The batches of each round, as Lightning asks for them."""
    sampler = BatchIndices(n, size, seed=3, rank=rank, world_size=world, round_batches=per_round)
    found = []
    for number in range(rounds):
        sampler.set_epoch(number)
        found.append([batch.tolist() for batch in sampler])
        assert len(found[-1]) == len(sampler)
    return found


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 15), st.integers(1, 6))
def test_rounds_partition_a_stream_of_permutations(n: int, size: int, per_round: int, rounds: int) -> None:
    batches = [batch for each in _rounds(n, size, per_round, rounds) for batch in each]
    assert len(batches) == rounds * per_round
    a_pass = -(-n // size)
    whole = [batch for each in _rounds(n, size, None, -(-len(batches) // a_pass)) for batch in each]
    assert batches == whole[: len(batches)], "rounds of any length cut the same stream"
    for start in range(0, len(whole), a_pass):
        of_pass = whole[start : start + a_pass]
        assert sorted(cell for batch in of_pass for cell in batch) == list(range(n)), "a pass is a permutation"
        assert [len(batch) for batch in of_pass[:-1]] == [size] * (a_pass - 1), "only a pass's last batch is smaller"


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 9), st.integers(2, 4))
def test_processes_share_each_batch(n: int, size: int, per_round: int, world: int) -> None:
    whole = _rounds(n, size, per_round, 3)
    shares = [_rounds(n, size, per_round, 3, rank, world) for rank in range(world)]
    for number, batches in enumerate(whole):
        for index, batch in enumerate(batches):
            counted = [cell for share in shares for cell in share[number][index] if cell >= 0]
            assert sorted(counted) == sorted(batch)
            assert all(share[number][index] for share in shares), "every process has a batch at every update"


def test_passes_are_shuffled_anew() -> None:
    first, second = (np.concatenate(each) for each in _rounds(23, 5, None, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("n", "recipe", "trainer", "planned"),
    [  # recipe: updates, min_epochs, validations; planned: updates, batches a round, rounds
        (16, (3000, 5, 30), (None, None), (3000, 100, 30)),
        (1000, (3000, 5, 30), (None, None), (3000, 100, 30)),
        (16000, (3000, 5, 30), (None, None), (10000, 334, 30)),  # five passes of 2000 batches
        (16000, (3000, 0, 30), (None, None), (3000, 100, 30)),
        (80, (20, 0, 30), (None, None), (20, 1, 20)),  # not validated more often than updated
        (80, (100, 0, 7), (None, None), (100, 15, 7)),  # the last round has 10
        (80, (3000, 5, 30), (25, None), (250, 10, 25)),  # each pass validated
        (80, (3000, 5, 30), (None, 7), (7, 1, 7)),
        (80, (3000, 5, 30), (None, 60), (60, 2, 30)),
        (80, (3000, 5, 30), (500, 23), (23, 10, 500)),
        (80, (3000, 5, 30), (2, 400), (20, 10, 2)),
    ],
)
def test_what_is_planned(n: int, recipe: tuple[int, ...], trainer: Any, planned: tuple[int, int, int]) -> None:
    names = ("updates", "min_epochs", "validations")
    adaptation = Scratch(**RECIPE, batch_size=8, **dict(zip(names, recipe, strict=True)))
    budget = plan_budget(adaptation, TrainerSettings(max_epochs=trainer[0], max_steps=trainer[1], **TRAINER), n)
    assert (budget.updates, budget.round_batches, budget.rounds) == planned
    assert budget.epochs == planned[0] / -(-n // 8)


@pytest.mark.long
def test_two_limits_have_the_same_updates_and_validations(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(40, 5)
    budget = ["adapt.updates=46", "adapt.min_epochs=2", "adapt.validations=5"]
    few, many = (_train(tmp_path, root, *budget, f"flag_limit={limit}") for limit in (4, 20))
    assert (sum(few["counts"]["train"].values()), sum(many["counts"]["train"].values())) == (12, 60)
    for record in (few, many):
        assert record["updates"] == 46
        assert [row["update"] for row in record["history"]] == [10, 20, 30, 40, 46]
    assert (few["epochs"], many["epochs"]) == (23.0, 46 / 8)
    [row] = [row for row in many["history"] if row["update"] == many["best_update"]]
    assert many["val_macro_f1"] == row["val_macro_f1"]
    assert many["best_epoch"] == int(np.ceil(row["epochs"])) - 1
    floor = _train(tmp_path, root, *budget, "flag_limit=20", "adapt.min_epochs=7")
    assert (floor["updates"], floor["epochs"]) == (56, 7.0)


@pytest.mark.long
@pytest.mark.parametrize("overrides", [[], ["trainer.max_epochs=500"]], ids=["alone", "with max_epochs"])
def test_max_steps_is_as_good_as_that_many_updates(
    tmp_path: Path, folder_of_squares: FolderMaker, overrides: list[str]
) -> None:
    """Schedule and average once spanned all 500 epochs: the average was almost untrained, the accuracy 0.33."""
    root = folder_of_squares(40, 5)
    by_updates = _train(tmp_path, root, "adapt.updates=103", "adapt.min_epochs=0")
    capped = _train(tmp_path, root, "trainer.max_steps=103", *overrides)
    assert (by_updates["updates"], capped["updates"], capped["history"][-1]["update"]) == (103, 103, 103)
    assert by_updates["metrics"][0]["accuracy"] == capped["metrics"][0]["accuracy"] == 1.0
    assert max(each["history"][-1]["val_loss"] for each in (by_updates, capped)) < 0.1


def test_max_epochs_ends_before_max_steps(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    short, whole = (_train(tmp_path, root, "trainer.max_epochs=2", *more) for more in (["trainer.max_steps=400"], []))
    assert short["identity"] != whole["identity"]
    assert short["history"] == whole["history"]
    assert (whole["epochs"], len(whole["history"])) == (2, 2)


def test_a_training_without_a_validation_is_an_error(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root, every = folder_of_squares(20, 5), "+trainer.check_val_every_n_epoch=2"
    with pytest.raises(ValueError, match=r"check_val_every_n_epoch=2 must be at most trainer\.max_epochs=1"):
        assemble(config_of(tmp_path, root, *SMALL_CNN, "trainer.max_epochs=1", every))
    with pytest.raises(ValueError, match=r"would end before its first validation, at trainer\.max_steps=6: lower"):
        _train(tmp_path, root, "trainer.max_epochs=4", "trainer.max_steps=6", every)


def test_the_budget_is_part_of_the_identity_where_it_counts(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(6, 3)

    def of(*overrides: str) -> str:
        return identity(assemble(config_of(tmp_path, root, *SMALL_CNN, *overrides)).settings, "data", None)

    budgets = ["adapt.updates=9", "adapt.min_epochs=9", "adapt.validations=9"]
    assert len({of(), *(of(each) for each in budgets), of("trainer.max_steps=9"), of("trainer.max_epochs=9")}) == 6
    assert {of("trainer.max_epochs=9", each) for each in budgets} == {of("trainer.max_epochs=9")}


@pytest.mark.parametrize(
    ("name", "value"), [("accumulate_grad_batches", 2), ("check_val_every_n_epoch", 3), ("limit_train_batches", 0.5)]
)
def test_settings_that_count_within_epochs_need_epochs(name: str, value: float) -> None:
    TrainerSettings(max_epochs=3, max_steps=None, others={name: value}, **TRAINER)
    with pytest.raises(ValueError, match=f"trainer.{name}={value} needs trainer.max_epochs"):
        TrainerSettings(max_epochs=None, max_steps=9, others={name: value}, **TRAINER)


@pytest.mark.parametrize("value", ["0", "1.5", "many", "true"])
def test_bad_max_steps(tmp_path: Path, folder_of_squares: FolderMaker, value: str) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_steps must be a whole number >= 1, but got"):
        assemble(config_of(tmp_path, folder_of_squares(6, 3), *SMALL_CNN, f"trainer.max_steps={value}"))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.3, 0.2], None),
        ([0.1, 0.2, 0.3], "last"),
        ([0.3, 0.2, 0.1], "first"),
        ([0.2, 0.3, 0.3], None),
        ([0.3, 0.2, 0.3], None),
        ([0.3, 0.3], None),
        ([0.5], "last"),
    ],
)
def test_which_validation_was_best(scores: list[float], expected: str | None) -> None:
    assert best_validation(scores) == expected


def test_best_validations_are_counted_in_words() -> None:
    assert count_best_validations([]) == ""
    words = "2 of 4 trainings were best at their last validation, 1 at their first"
    assert count_best_validations(["last", None, "first", "last"]) == words


@pytest.mark.parametrize(("lr", "which"), [("0.01", "last"), ("1.0e-9", "first")])
def test_a_run_says_that_its_best_validation_was_its_last_or_first(
    tmp_path: Path,
    folder_of_squares: FolderMaker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lr: str,
    which: str,
) -> None:
    if which == "first":  # scores of an untrained network are all equal, so make the later ones worse
        falling = iter((0.4, 0.3, 0.2))
        monkeypatch.setattr("cellpatch.training.callbacks.validated_score", lambda trainer: next(falling))
    root = folder_of_squares(20, 5)
    record = _train(tmp_path, root, f"model.recipe.lr={lr}", "trainer.max_steps=12", "adapt.validations=3")
    assert record["best_validation"] == which
    assert f"its best validation was the {which}" in " ".join(capsys.readouterr().out.split())
    table = runs_table(tmp_path / "runs")
    assert table[["updates", "best_validation"]].to_numpy().tolist() == [[12, which]]
    runs.main([str(tmp_path / "runs"), "--csv", str(tmp_path / "grid.csv")])
    assert f",12,{which}," in (tmp_path / "grid.csv").read_text()
    last, first = int(which == "last"), int(which == "first")
    words = f"{last} of 1 trainings were best at their last validation, {first} at their first"
    assert words in capsys.readouterr().out.splitlines()


def test_captions_count_runs_that_kept_their_last_or_first_validation() -> None:
    plain = simulated(seeds=(0, 1), limits=(256, 512))
    assert best_validation_caption(group_by_seed(plain)) == "", "earlier versions did not record it"
    assert figure3.DAGGER not in figure3.draw("simulated", group_by_seed(plain)).caption
    marked = [restated(run, best_validation=kept) for run, kept in zip(plain, ["last", "last", "first"], strict=False)]
    groups = group_by_seed([*marked, *plain[3:]])
    words = f" 2 of {len(plain)} runs kept their last validation: they may be undertrained."
    words += f" 1 of {len(plain)} runs kept their first validation: training did not improve on it."
    assert best_validation_caption(groups) == words
    assert words in sample_size_caption(groups)
    output = "2 of 3 trainings were best at their last validation, 1 at their first."
    output += " They may be undertrained: more adapt.updates may score higher."
    assert output in caveats(groups), "of those that recorded it"
    counted = [restated(run, updates=12) for run in plain]
    none = f"0 of {len(plain)} trainings were best at their last validation, 0 at their first."
    assert none in caveats(group_by_seed(counted))
    assert not any("trainings were best" in sentence for sentence in caveats(group_by_seed(plain)))
    drawing = figure3.draw("simulated", groups)
    assert words in drawing.caption
    assert "† marks points with such runs" in drawing.caption
    shown = [text.get_text() for ax in drawing.figure.axes for text in ax.texts]
    marks = [text for text in shown if figure3.DAGGER in text]
    assert len(marks) == 2, "both seeds of one point, one seed of another"
    assert figure3.DAGGER in marks, "beside a point"
    assert any(text.endswith(f" {figure3.DAGGER}") for text in marks), "beside the name of the last point"


def test_a_dry_run_estimates_by_planned_updates(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(40, 5)
    outcome = train(config_of(tmp_path, root, *SMALL_CNN, "flag_limit=4", "trainer.max_steps=12"))
    run = tmp_path / "runs" / outcome.run
    replace_record(run, read_record(run) | {"seconds": {"train": 12.0, "evaluate": 5.0}})  # 6 passes of 12 cells
    more = ["flag_limit=20", "dry_run=true"]
    planned = train(config_of(tmp_path, root, *SMALL_CNN, "trainer.max_steps=24", *more))  # 3 passes of 60 cells
    assert planned.seconds == pytest.approx(12 / (6 * 12) * 3 * 60 + 5)


def test_a_run_of_before_there_was_a_budget_is_read_and_restored(
    tmp_path: Path, folder_of_squares: FolderMaker
) -> None:
    outcome = train(config_of(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, "trainer.max_epochs=1"))
    run = tmp_path / "runs" / outcome.run
    record = read_record(run)
    for name in ("updates", "min_epochs", "validations"):
        del record["config"]["adapt"][name]
    del record["config"]["trainer"]["max_steps"]
    earlier = {k: v for k, v in record.items() if k not in ("updates", "best_update", "best_validation")}
    replace_record(run, earlier)
    assert restore(run)
    [row] = runs_table(run.parent).to_dict("records")
    assert pd.isna(row["updates"])
    assert row["best_validation"] == ""
    again = train(config_of(tmp_path, tmp_path / "cells", *SMALL_CNN, "trainer.max_epochs=1"))
    assert (again.run, again.state) == (outcome.run, "exists")


def test_one_batch_is_not_all_of_them() -> None:
    common = {"max_steps": None, "accelerator": "cpu", "devices": 1, "resume": False, "precision": None}
    for others in ({"limit_train_batches": 1}, {"accumulate_grad_batches": 2}, {"min_epochs": 9}, {"min_steps": 2}):
        with pytest.raises(ValueError, match=r"needs trainer.max_epochs"):
            TrainerSettings(max_epochs=None, enable_progress_bar=False, others=others, **common)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"min_steps would go past trainer.max_steps=3"):
        limited = common | {"max_steps": 3}
        TrainerSettings(max_epochs=2, enable_progress_bar=False, others={"min_steps": 9}, **limited)  # type: ignore[arg-type]
    whole = effective_settings(config_with({"limit_train_batches": 1.0}))
    assert whole == effective_settings(config_with({}))
    assert whole != effective_settings(config_with({"limit_train_batches": 1}))


def config_with(others: Json) -> Json:
    return {"trainer": {"max_epochs": 4, **others}, "adapt": {}}


def test_a_budget_counts_updates_that_take_several_batches() -> None:
    assert Budget(5, 5, 4, None, accumulated=2).updates == 12
    assert Budget(5, 5, 4, None, accumulated=2).epochs == 4
    capped = Budget(5, 5, 4, 2, accumulated=4)
    assert (capped.updates, capped.epochs) == (2, 1.0)
