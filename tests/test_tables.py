"""Tables from stored runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import blur_table
import compare_table
import cost_table
import counts_table
import latency_table
import make_all
import models_table
import numpy as np
import pandas as pd
import pytest
import recipes
import scaling_table
import settings_table
from simulated import (
    CLASSES,
    OTHER_WAY,
    SKILLS,
    at_field,
    cells_of,
    in_folders,
    on_cohort,
    restated,
    simulated,
    with_config,
)

from cellpatch.analysis import cells
from cellpatch.analysis.blur import blur_leads, summarise_blur
from cellpatch.analysis.comparison import compare_with_best
from cellpatch.analysis.groups import SeedGroup, group_by_seed
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.config.schema import compose_config
from cellpatch.figures.tables import MIXED_CODE, write_table, write_tables
from cellpatch.metrics.scores import macro_f1, macro_f1_of
from cellpatch.optics.conditions import CLEAN

GROUPS = group_by_seed(in_folders(on_cohort(simulated(limits=(256, 4096)))))
AT_FIELDS = group_by_seed(on_cohort([run for um in (10.0, 20.0) for run in at_field(simulated(limits=(256,)), um)]))


def test_one_specimen_has_no_interval() -> None:
    summary = models_table.summarise(group_by_seed(simulated(limits=(256,), specimens=1)))
    assert set(models_table.shown(summary)["95 %"]) == {"-"}


def test_crossings_are_of_scratch_against_pretrained() -> None:
    scores = {"cnn": (0.4, 0.6), "nin": (0.3, 0.31), "vit": (0.5, 0.55)}
    rows = [
        (model, "knn" if model == "vit" else "scratch", 40, "via 40 px", limit, score)
        for model, both in scores.items()
        for limit, score in zip((8, 16), both, strict=True)
    ]
    summary = pd.DataFrame(rows, columns=["model", "adapt", "input_px", "optics", "flag_limit", "macro_f1"])
    assert models_table.mean_crossings(summary) == ["cnn overtakes vit, knn (40 px) between 8 and 16"]


def test_the_table_of_results_has_intervals_over_specimens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [run for run in simulated(limits=(256, 4096)) if run.coordinates.model in ("customvit", "dinov2_s")]
    pack(results, tmp_path / "runs.parquet")
    groups = group_by_seed(read_results(tmp_path / "runs.parquet"))
    files = write_tables(models_table.tables(groups), "simulated", tmp_path / "tables")
    assert [file.name for file in files] == [f"models-simulated.{kind}" for kind in ("csv", "md", "tex")]
    assert "customvit overtakes dinov2_s, linear_probe (56 px) between 256 and 4096" in capsys.readouterr().out
    [row] = pd.read_csv(files[0]).query("model == 'customvit' and flag_limit == 4096").to_dict("records")
    scores = [run.record.metrics[0].scores.macro_f1 for run in results if run.run.startswith("customvit-scratch-4096")]
    assert row["macro_f1"] == pytest.approx(np.mean(scores))
    assert row["low"] < min(scores) < max(scores) < row["high"], "over specimens too"
    assert row["sd_seeds"] == pytest.approx(np.std(scores, ddof=1))
    assert row["low"] < row["macro_f1"] - 1.9 * row["sd_specimens"] < scores[0]
    assert (row["seeds"], row["n_train"]) == (3, 8592)
    write_tables(models_table.tables(groups), "simulated", tmp_path / "again")
    assert files[0].read_text() == (tmp_path / "again" / files[0].name).read_text()


@pytest.mark.parametrize("file", make_all.script_files("tables").values(), ids=lambda file: file.stem)
def test_each_table_says_what_it_is_of(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_opened", cells_of)
    tables = make_all.load(file).tables(AT_FIELDS if file.stem == "field_table" else GROUPS)
    assert all(table.caption for table in tables)
    pages = [page for page in write_tables(tables, "sim", tmp_path) if page.suffix == ".md"]
    assert pages
    for page in pages:
        assert "1835 synthetic test cells of 30 specimens" in page.read_text()


def test_latex_and_markdown_keep_a_name_as_it_is(tmp_path: Path) -> None:
    shown = pd.DataFrame({"class": ["a|b", "50 %_&"], "n": [1, 2]})
    files = write_table(tmp_path / "t", shown, shown, ["a note of 5 %"])
    assert files[1].read_text().splitlines() == [
        "| class | n |",
        "| --- | --- |",
        "| a\\|b | 1 |",
        "| 50 %_& | 2 |",
        "",
        "* a note of 5 %",
    ]
    assert r"\par{\footnotesize a note of 5 \%}" in files[2].read_text()
    assert r"50 \%\_\& & 2 \\" in files[2].read_text()
    assert r"\toprule" in files[2].read_text()
    assert pd.read_csv(files[0])["class"].tolist() == ["a|b", "50 %_&"]


def test_the_best_is_compared_with_each_other_model() -> None:
    groups = group_by_seed(simulated(limits=(4096,)))
    table = compare_with_best(groups).set_index("model")
    assert set(table["best"]) == {"customvit"}
    assert list(table["behind"]) == sorted(table["behind"])
    scores = {label: group.estimate(CLEAN, macro_f1).mean for label, group in by_label(groups, groups).items()}
    for model, row in table.drop("always stroma").iterrows():
        assert row["behind"] == pytest.approx(scores["customvit"] - scores[model])
        assert 0 < row["low"] < row["behind"] < row["high"]
        assert 0 < row["at_least"] < row["high"]
    same = {(model, "scratch", 40): (0.2, 0.2, 0.1) for model in ("cnn", "resnet")}
    row, _ = compare_with_best(group_by_seed(simulated(limits=(256,), skills=same))).to_dict("records")
    assert row["low"] < 0 < row["high"]
    assert row["at_least"] < 0
    with pytest.raises(ValueError, match="two models at the same flag_limit"):
        compare_with_best(groups[:1])


def _with_a_scarce_class(present: int, **changes: Any) -> list[SeedGroup]:
    """Simulated groups whose last class has test cells in so many specimens."""
    results = []
    for run in simulated(limits=(256,), skills=dict(list(SKILLS.items())[:2]), **changes):
        confusions = {}
        for condition, counts in run.confusions.items():
            fewer = counts.copy()
            fewer[present:, 2] = 0
            confusions[condition] = fewer
        results.append(replace(run, confusions=confusions))
    return group_by_seed(results)


def test_tables_have_macro_f1_over_widespread_classes() -> None:
    groups = _with_a_scarce_class(9)
    [table] = models_table.tables(groups)
    note = (
        "Widespread: macro-F1 over the 2 classes in at least 10 test specimens. It leaves out 1 (with their "
        "test specimens): <script>alert(1)</script> (9)."
    )
    assert note in table.notes
    assert table.note == note
    score = macro_f1_of((0, 1))
    *rows, rule = table.numbers.to_dict("records")
    assert rule["macro_f1_widespread"] == pytest.approx(rule["macro_f1"] * 3 / 2), "one of the two classes is found"
    for row, group in zip(rows, sorted(groups, key=lambda g: -g.estimate(CLEAN, macro_f1).mean), strict=True):
        summary = [row[key] for key in ("macro_f1_widespread", "low_widespread", "high_widespread")]
        assert summary == pytest.approx(group.estimate(CLEAN, score).summary())
        assert row["macro_f1_widespread"] != row["macro_f1"]
    assert table.shown["widespread"].tolist() == [f"{x:.3f}" for x in table.numbers["macro_f1_widespread"]]
    [compared] = compare_table.tables(groups)
    assert note in compared.notes
    [row, _] = compared.numbers.to_dict("records")
    best, other = (group.estimate(CLEAN, score).mean for group in groups)
    assert abs(row["behind_widespread"]) == pytest.approx(abs(best - other))
    assert row["low_widespread"] < row["behind_widespread"] < row["high_widespread"]
    assert " to " in compared.shown["behind, widespread"][0]
    [table] = models_table.tables(_with_a_scarce_class(10))
    assert table.note == "Widespread: macro-F1 over the classes in at least 10 test specimens: all 3."
    np.testing.assert_allclose(table.numbers["macro_f1_widespread"], table.numbers["macro_f1"])


def test_the_rule_is_a_row_of_tables_and_a_note_of_others() -> None:
    counts = GROUPS[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
    share = counts.max() / counts.sum()
    rule = 2 * share / (1 + share) / len(counts)  # precision is the share, recall is 1; F1 of other classes is 0
    [models] = models_table.tables(GROUPS)
    rows = models.numbers.query("model == 'always stroma'")
    assert rows["flag_limit"].tolist() == [256, 4096]
    assert rows["macro_f1"].tolist() == pytest.approx([rule, rule])
    assert (
        models.shown.loc[rows.index, ["adapt", "input", "cells", "seeds"]].to_numpy().tolist()
        == [["-", "-", 0, "-"]] * 2
    )
    assert models.numbers["model"].iloc[rows.index[0] + 1] != "always stroma", "it ends its limit"
    [compared] = compare_table.tables(GROUPS)
    last = compared.numbers.iloc[-1]
    assert (last["model"], last["macro_f1"]) == ("always stroma", pytest.approx(rule))
    leaders = by_label([group for group in GROUPS if group.coordinates.flag_limit == 4096], GROUPS)
    assert last["behind"] == pytest.approx(leaders[last["best"]].estimate(CLEAN, macro_f1).mean - rule)
    assert last["low"] < last["behind"] < last["high"]
    assert compared.shown["behind at least"].iloc[-1] == ""
    for script in (blur_table, scaling_table, cost_table):
        words = f"Always stroma: macro-F1 {rule:.3f}, at any limit and under any blur."
        assert any(words in table.notes for table in script.tables(GROUPS)), script


def test_counts_are_those_of_records_and_predictions() -> None:
    [table] = counts_table.tables(GROUPS)
    of = table.numbers.set_index("class")
    true = GROUPS[0].runs[0].confusions[CLEAN].sum(axis=(0, 2))
    assert of.loc[list(CLASSES), "test"].tolist() == true.tolist()
    assert of.loc["all", "test"] == true.sum() == 1835
    assert of.loc[list(CLASSES), "training at 256"].tolist() == [256, 256, 256]
    assert of.loc[list(CLASSES), "training at 4096"].tolist() == [4096, 4096, 400]
    assert of.loc["all", "test specimens"] == 30


def test_settings_are_apart_by_whether_models_share_them() -> None:
    runs = [
        with_config(run, "adapt", lr=0.003, component="x", batch_size=64 if run.coordinates.seed else 32)
        for run in simulated(limits=(256,))
        if run.coordinates.model in ("cnn", "customvit")
    ]
    runs = [with_config(run, "adapt", mixup=0.2) if run.coordinates.model == "cnn" else run for run in runs]
    differing, shared = settings_table.tables(group_by_seed(runs))
    assert differing.numbers.to_dict("list") == {"model": ["cnn", "customvit"], "adapt.mixup": ["0.2", ""]}
    settings = dict(shared.numbers.itertuples(index=False, name=None))
    assert settings["adapt.lr"] == "0.003"
    assert settings["adapt.batch_size"] == "32 or 64"
    assert settings["input_px"] == "40"
    assert settings["optics.resize"] == "bilinear"
    assert not {"adapt.name", "adapt.component", "optics.kind"} & settings.keys()


def test_no_widespread_class_is_no_number() -> None:
    groups = _with_a_scarce_class(3, specimens=6)
    [table] = models_table.tables(groups)
    assert table.note == "Widespread: no class is in at least 10 test specimens."
    assert set(table.shown["widespread"]) == {"-"}
    [compared] = compare_table.tables(groups)
    assert set(compared.shown["behind, widespread"]) == set(compared.shown["macro-F1, widespread"]) == {"-"}


def test_fits_and_crossings_are_those_of_the_simulation() -> None:
    groups = group_by_seed(simulated())
    fits = scaling_table.power_laws(groups).set_index("model")
    row = fits.loc["customvit"]
    for name, true in (("floor", 0.05), ("gain", 0.60), ("exponent", 0.5)):
        assert row[f"{name}_low"] <= true <= row[f"{name}_high"], name
    assert fits.loc["efficientnet_lite0, knn", "no fit because"]
    pairs = scaling_table.crossings(groups).set_index(["from scratch", "pretrained"])
    for side, floor, gain in ((224, 0.30, 0.15), (56, 0.32, 0.18)):
        row = pairs.loc[("customvit", f"dinov2_s, linear_probe, {side} px")]
        true = 256 * ((0.60 - gain) / (floor - 0.05)) ** 2
        assert row["ahead in the end"] == "customvit"
        assert row["low"] < true < row["high"]
    assert [scaling_table.format_limit(limit) for limit in (0, 300.4, np.inf)] == ["always", "300", "never"]


def test_a_pretrained_model_may_be_the_one_that_overtakes() -> None:
    pairs = scaling_table.crossings(group_by_seed(simulated(skills=OTHER_WAY)))
    [row] = pairs.to_dict("records")
    assert row["ahead in the end"] == "dinov2_s, linear_probe"
    assert row["low"] < 256 * ((0.60 - 0.10) / (0.30 - 0.05)) ** 2 < row["high"]


def test_blur_table_has_slopes_and_ends_of_leads() -> None:
    groups = group_by_seed(simulated(limits=(4096,)))
    table = summarise_blur(groups).set_index(["model", "input_px", "kind", "score", "what"])
    row = table.loc[("customvit", 40, "post", "accuracy", "slope")]
    assert row["low"] <= row["value"] <= row["high"]
    assert row["value"] == pytest.approx(-SKILLS["customvit", "scratch", 40][2], abs=0.02)
    clean = table.loc[("customvit", 40, "post", "accuracy", "sigma 0"), "value"]
    relative = table.loc[("customvit", 40, "post", "accuracy", "relative slope"), "value"]
    assert relative == pytest.approx(row["value"] / clean, rel=0.05)
    leads = blur_leads(groups, groups).set_index(["kind", "score", "ahead", "behind"])
    row = leads.loc[("post", "accuracy", "customvit", "cnn")]
    true = 2 ** ((0.15 - 0.05 + (0.45 - 0.60) / 4) / 0.05) - 1  # where 0.05 per doubling has eaten the lead
    assert row["low"] < true < row["high"]
    assert (leads["ends"] > 0).all()
    shown = blur_table.shown_scores(summarise_blur(groups))
    assert len(shown) == 5 * 2 * 2
    assert shown["slope"].str.contains(" to ").all()


def test_a_lead_is_stated_at_the_sigmas_that_both_have() -> None:
    results = simulated(limits=(4096,), seeds=(0,))[:2]
    for condition in list(results[0].confusions):
        if condition.sigma in (0.4, 1.6):
            del results[0].confusions[condition]
    groups = group_by_seed(results)
    assert len(blur_leads(groups, groups)) == 4
    for condition in list(results[0].confusions)[1:]:
        del results[0].confusions[condition]
    assert blur_leads(group_by_seed(results), group_by_seed(results)).empty


def test_a_single_specimen_has_no_interval() -> None:
    summary = summarise_blur(group_by_seed(simulated(limits=(256,), seeds=(0,), specimens=1)))
    assert summary[["low", "high"]].isna().all(axis=None)
    assert summary.loc[summary["what"] != "relative slope", "value"].notna().all()


def test_blur_table_needs_blur() -> None:
    results = simulated(limits=(256,))
    for run in results:
        for condition in list(run.confusions)[1:]:
            del run.confusions[condition]
    with pytest.raises(ValueError, match="no run was evaluated under blur"):
        blur_table.tables(group_by_seed(results))


def test_no_model_gets_more_search_than_another() -> None:
    lines = recipes.LINES.read()
    assert set(lines["model"]) <= set(recipes.scratch_models())
    assert lines["model"].nunique() == 8
    per_model = lines.groupby(["data", "flag_limit", "epochs", "model"])["candidate"].apply(sorted)
    whole = [candidates for candidates in per_model if len(candidates) == len(recipes.CANDIDATES)]
    assert len(whole) == len(per_model), "a search is half done"
    searches = lines.groupby("model")[["data", "flag_limit", "epochs"]].apply(lambda of: {*of.itertuples(index=False)})
    assert all(of == searches.iloc[0] for of in searches)


@pytest.mark.long
def test_models_hold_the_chosen_recipe() -> None:
    chosen = recipes.choose(recipes.LINES.read()).idxmax(axis=1)
    assert set(chosen.index) == set(recipes.scratch_models()) - {"customvit_s"}
    chosen = chosen.rename({"customvit": "customvit_s"})  # what customvit was when the search was made
    for model, candidate in chosen.items():
        searched = compose_config(recipes.overrides_of(model, candidate)).model
        searched.recipe.lr = 3.0e-3  # with Muon, the same for all: search.csv
        assert compose_config([f"model={model}"]).model == searched, model
    small, large = (compose_config([f"model={name}"]).model.recipe for name in ("customvit_s", "customvit"))
    assert small == large, "the larger one was not searched"


def test_the_choice_is_the_best_mean_over_the_data_sets() -> None:
    rows = [
        {"data": data, "flag_limit": 8, "epochs": 2, "model": "cnn", "candidate": candidate, "val_macro_f1": score}
        | {"config": config}
        for data, scores, config in (
            ("a", [0.5, 0.6, 0.1], "x"),
            ("b", [0.5, 0.45, 0.9], "y"),
            ("half", [0.1, 0.9], "z"),
        )
        for candidate, score in enumerate(scores)
    ]
    means = recipes.choose(pd.DataFrame(rows))
    assert means.loc["cnn"].tolist() == pytest.approx([0.5, 0.525, 0.5])
    assert means.idxmax(axis=1)["cnn"] == 1


def test_accuracy_and_cost_join_by_run() -> None:
    results = simulated(limits=(256,), seeds=(0, 1))
    table = latency_table.summarise(results)
    assert len(table) == len(results)
    row = table.iloc[0]
    assert row["macro_f1"] == pytest.approx(results[0].record.metrics[0].scores.macro_f1)
    assert row[["eager_1_ms", "eager_best_ms", "eager_best_batch"]].tolist() == pytest.approx([2.5, 2.5 / 3, 64])
    shown = latency_table.shown(table).iloc[0]
    assert shown["eager, batch 1, ms"] == "2.5 (2.22 to 2.86)"
    assert shown["eager, best batch, ms"] == "0.833 (0.741 to 0.952) at 64"
    results[0] = restated(results[0], latency=None)
    assert len(latency_table.summarise(results)) == len(results) - 1
    results[1] = restated(results[1], latency=results[1].stored["latency"] | {"device": "cuda"})
    with pytest.raises(ValueError, match="are of different machines or threads"):
        latency_table.summarise(results)
    results = [restated(run, latency=None) for run in results]
    with pytest.raises(ValueError, match="no run has a card of latency: cellpatch latency"):
        latency_table.summarise(results)


def test_tables_of_groups_mark_mixed_training_code() -> None:
    results = simulated(limits=(256,), seeds=(0, 1))
    other = {"number": 2, "fingerprint": "other"}
    mixed = [restated(run, training_code=other) if run.run == "cnn-scratch-256-40-s1" else run for run in results]
    for script in (models_table, compare_table, blur_table):
        same, marked = (script.tables(group_by_seed(runs))[0] for runs in (results, mixed))
        assert MIXED_CODE not in same.shown
        assert MIXED_CODE not in same.numbers
        for frame in (marked.shown, marked.numbers):
            assert set(frame.loc[frame["model"] == "cnn", MIXED_CODE]) == {"yes"}
            assert set(frame.loc[frame["model"] != "cnn", MIXED_CODE]) == {"no"}
        assert "Runs of different training code: cnn." in marked.notes[0]
