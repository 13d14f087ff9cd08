"""The search for recipes compares equal runs, on validation cells, and calls nothing better that seeds do not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import search
from conftest import run_of_squares

from cellpatch.config.schema import compose_config
from cellpatch.runs.stored_run import StoredRun

LINE = {"data": "a", "model": "cnn", "adapt": "scratch", "flag_limit": 8, "updates": 4, "best_validation": None}


def lines_of(scores: dict[str, list[float]], **other: str | int) -> pd.DataFrame:
    rows = [
        LINE | other | {"candidate": candidate, "seed": seed, "val_macro_f1": score, "run": f"{candidate}{seed}{other}"}
        for candidate, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]
    return pd.DataFrame(rows)


def test_a_gain_is_of_equal_seeds_and_better_only_beyond_the_seeds_spread() -> None:
    lines = lines_of({search.AS_IT_IS: [0.5, 0.6, 0.7], "sure": [0.6, 0.71, 0.8], "by chance": [0.9, 0.6, 0.7]})
    table = search.summarise(lines, ["adapt"]).set_index("candidate")
    assert table.loc["sure", "gain"] == pytest.approx(0.31 / 3)
    # Student's t with two degrees of freedom: 4.3027; the standard deviation of 0.10, 0.11, 0.10 is 0.0057735
    assert table.loc["sure", "half"] == pytest.approx(4.302653 * 0.00577350 / 3**0.5, rel=1e-4)
    assert table["better"].to_dict() == {"by chance": False, "sure": True}
    assert table.loc["by chance", "gain"] > table.loc["sure", "gain"], "the higher mean alone is not a reason"


def test_one_seed_is_never_better() -> None:
    table = search.summarise(lines_of({search.AS_IT_IS: [0.5], "higher": [0.9]}), ["adapt"])
    assert table["better"].tolist() == [False]
    assert "+0.400, 1 seed" in search.as_page(lines_of({search.AS_IT_IS: [0.5], "higher": [0.9]}))


def test_gains_of_a_seed_are_averaged_over_data_before_seeds_are_compared() -> None:
    one = lines_of({search.AS_IT_IS: [0.5, 0.5], "x": [0.6, 0.5]})
    other = lines_of({search.AS_IT_IS: [0.5, 0.5], "x": [0.5, 0.6]}, data="b")
    [row] = search.summarise(pd.concat([one, other]), ["adapt"]).to_dict("records")
    assert (row["runs"], row["seeds"]) == (4, 2)
    assert (row["gain"], row["half"]) == (pytest.approx(0.05), pytest.approx(0.0))


def test_runs_without_a_partner_are_not_compared() -> None:
    lines = pd.concat([lines_of({search.AS_IT_IS: [0.5]}), lines_of({"x": [0.9]}, updates=9)])
    assert search.gains(lines).empty
    assert search.summarise(lines, ["adapt"]).empty
    assert "2 trainings" in search.as_page(lines)


@pytest.mark.parametrize(
    ("override", "candidate"),
    [
        ([], search.AS_IT_IS),
        (["adapt.updates=77", "adapt.patience=3", "trainer.precision=bf16-mixed"], search.AS_IT_IS),
        (["adapt.lr=0.003"], search.AS_IT_IS),  # cnn's own
        (["adapt.optimizer=adamw", "adapt.lr=0.001"], "adapt.lr=0.001 adapt.optimizer=adamw"),
        (["model.backbone.widths=[8,16]"], "model.backbone.widths=[8, 16]"),
        (["adapt.balance=class_weights"], "adapt.balance=class_weights"),
        (["adapt.balance=adjusted_loss"], "adapt.balance=adjusted_loss"),
        (["augment.scale=[0.9,1.1]", "augment.erasing=0.25"], "augment.erasing=0.25 augment.scale=[0.9, 1.1]"),
    ],
)
def test_a_candidate_is_named_by_what_it_changes(override: list[str], candidate: str) -> None:
    config = search.assemble(compose_config(["model=cnn", "logger=none", *override])).settings.config
    assert search.candidate_of(config) == candidate


def test_runs_are_added_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FILE", tmp_path / "search.csv")
    run = StoredRun.open(run_of_squares(tmp_path, "model=cnn", "adapt.updates=8", "adapt.validations=2"))
    assert [search.add_runs(run.folder.parent) for _ in range(2)] == [1, 0]
    [line] = search.read_lines().to_dict("records")
    assert line["val_macro_f1"] == pytest.approx(run.record.val_macro_f1, abs=1e-4)
    assert np.mean([float(each) for each in line["val_f1"].split()]) == pytest.approx(line["val_macro_f1"], abs=1e-3)
    doubled = pd.concat([search.read_lines(), search.read_lines().assign(run="other")])
    doubled.to_csv(search.FILE, index=False)
    with pytest.raises(ValueError, match="several runs of one candidate"):
        search.read_lines()


def test_the_kept_search_has_one_line_a_run() -> None:
    lines = search.read_lines()
    assert lines["run"].is_unique
    assert lines["val_macro_f1"].between(0, 1).all()
