"""The page of a grid: its words against the runs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import claims
import compare_table
import pytest
import report
from conftest import ROOT, config_of
from recommend import recommend
from simulated import CLASSES, SKILLS, restated, simulated

from cellpatch.analysis.curves import format_limit_range
from cellpatch.analysis.groups import SeedGroup, group_by_seed
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.figures.tables import write_tables
from cellpatch.optics.conditions import Condition
from cellpatch.sweeps.train import train


def _sentences(groups: Sequence[SeedGroup]) -> list[str]:
    return recommend(groups).sentences


def _recommend(**changes: Any) -> list[str]:
    return _sentences(group_by_seed(simulated(**changes)))


def test_the_text_says_what_to_use_where_and_where_the_lead_changes() -> None:
    stated = _recommend()
    assert stated[:3] == [
        "Up to 512 annotations per class use dinov2_s, linear_probe, 56 px, the cheapest (in milliseconds per cell) of "
        "the 2 models that do not differ significantly from the best at any of these limits. Every model trained from scratch is "
        "significantly worse there.",
        "At 1024 annotations per class models trained from scratch and pretrained ones share the lead: use customvit, the "
        "highest-scoring of the 2 that are cheapest (in milliseconds per cell) among the 3 models that do not differ "
        "significantly from the best.",
        "At 4096 annotations per class use customvit: it is significantly better than every other model.",
    ]
    change = re.match(
        r"From about (\d+) annotations per class on the best model trained from scratch leads \((\d+) to (\d+)\)\.$",
        stated[3],
    )
    assert change
    place, low, high = map(int, change.groups())
    assert 512 < low < place < high < 1024
    assert stated[4].startswith("At 4096 annotations per class customvit has the highest macro-F1, 0.7")
    assert stated[4].endswith(" It is significantly better than every other model.")
    assert re.match(
        r"The rule 'always stroma' is a baseline: 0\.\d+ \(.*\)\. Every model is significantly better\.$", stated[5]
    )
    assert stated[6] == "The baseline on colour was not run: the same command with model=colour adds it in seconds."
    assert stated[7] == (
        "A cell costs 2.5 ms (2.22 to 2.86) with cnn and 1 other and 150 ms (133 to 171) with dinov2_s, linear_probe, 224 px, "
        "the cheapest and the dearest of those timed (one cell at a time, medians and quartiles, eager, simulated, 1 thread)."
    )
    assert re.match(
        r"Out of focus \(sigma 3.2 .*\) dinov2_s, linear_probe, \d+ px has the highest macro-F1, 0.\d+ \(.*\)\. "
        r"Not significantly different: .* Significantly worse: efficientnet_lite0, knn\. "
        r"Against sharp cells it changes by -0\.\d+ \(.*\) in dinov2_s, linear_probe, .* at best, "
        r"and by -0\.\d+ \(.*\) in customvit at worst\.$",
        stated[8],
    )


CUSTOMVIT, PROBE, TUNED = ("customvit", "scratch", 40), ("uni", "linear_probe", 224), ("uni", "ft_all", 224)


def test_every_model_of_a_kind_counts_not_the_best_at_the_largest_limit() -> None:
    """A probe leads at 256, customvit at the largest limit: the text once compared it with ft_all, and no probe."""
    skills = {CUSTOMVIT: (0.15, 0.44, 0.05), PROBE: (0.35, 0.03, 0.05), TUNED: (0.3, 0.45, 0.05)}
    stated = _recommend(skills=skills)
    assert stated[0].startswith("Up to 512 annotations per class use uni, linear_probe: ")
    assert not any("ahead of uni, ft_all at every limit" in text for text in stated)
    assert any("the best model trained from scratch leads" in text for text in stated)


def test_a_lead_that_ends_in_a_draw_is_stated_up_to_where_it_ends() -> None:
    """A foundation model surely ahead up to 4096, level above."""
    skills = {CUSTOMVIT: (0.285, 0.40, 0.05), PROBE: (0.32, 0.03, 0.05)}
    stated = _recommend(limits=(256, 512, 1024, 4096, 16384), skills=skills)
    assert stated[0] == (
        "Up to 4096 annotations per class use uni, linear_probe: it is significantly better than every other model."
    )
    assert stated[1].startswith(
        "At 16384 annotations per class models trained from scratch and pretrained ones share the lead: use customvit,"
    )
    assert not any("leads (" in text for text in stated), "no crossing is claimed"


@pytest.mark.long
def test_the_table_of_decisions_names_the_models_of_the_sentences() -> None:
    """From 1024 on customvit and densenet take turns: the sentence named one of them, the table another."""
    names = ["customvit", "densenet", "resnet", "se_resnet", "cnn", "nin", "efficientnet", "convnext"]
    skills = {(model, "scratch", 40): (0.05 + 0.02 * i, 0.5 - 0.02 * i, 0.1) for i, model in enumerate(names)}
    ways = ("linear_probe", "ft_last", "ft_all")
    skills |= {("uni", way, 224): (0.2 - 0.02 * i, 0.2, 0.08) for i, way in enumerate(ways)}
    runs = simulated(limits=(256, 512, 1024, 2048, 4096), skills=skills, specimens=61)
    lacking = [run for run in runs if run.coordinates.flag_limit < 4096 or run.coordinates.model in ("cnn", "uni")]
    for results in (runs, lacking):
        given = recommend(group_by_seed(results))
        texts = [text.partition(" use ")[2] for text in given.answers[0].sentences if " use " in text]
        used = list(dict.fromkeys(re.split(r"[:,] (?:it|the) ", text)[0] for text in texts))
        in_table = list(dict.fromkeys(given.by_limit["use"]))
        assert [name for name in in_table if name != "-"] == used
    assert in_table[-1] == "-", "a limit at which few were run"


def test_what_holds_at_every_limit_is_one_sentence() -> None:
    both = {CUSTOMVIT: (0.0, 0.1, 0.1), PROBE: (0.3, 0.15, 0.05)}
    start = "At every limit (256 to 4096 annotations per class) "
    better = "it is significantly better than every other model."
    assert _recommend(skills=both)[0] == f"{start}use customvit: {better}"
    assert _recommend(skills=both | {CUSTOMVIT: (0.7, 0.1, 0.1)})[0] == f"{start}use uni, linear_probe: {better}"
    undecided = _recommend(skills=both | {CUSTOMVIT: (0.3, 0.15, 0.05)})[0]
    assert undecided.startswith(
        f"{start}models trained from scratch and pretrained ones share the lead: use customvit, "
    )


def test_a_model_that_is_no_better_than_the_largest_class_is_not_recommended() -> None:
    stated = _recommend(skills={CUSTOMVIT: (0.74, 0.0, 0.0), ("cnn", "scratch", 40): (0.75, 0.0, 0.0)})
    assert stated[0] == (
        "At every limit (256 to 4096 annotations per class) no model is significantly better than 'always "
        "stroma': none is recommended."
    )
    [rule] = [text for text in stated if text.startswith("The rule 'always stroma'")]
    assert "Not significantly better: " in rule


def test_a_probe_on_colour_is_a_baseline_not_a_model() -> None:
    colour = {("colour", "linear_probe", 40): (0.3, 0.1, 0.1)}
    stated = _recommend(skills={CUSTOMVIT: (0.1, 0.1, 0.1)} | colour)
    assert any(
        re.match(r"The model 'colour, linear_probe' is a baseline: 0.*\. Every model is significantly better", text)
        for text in stated
    )
    assert stated[0].endswith(". No other model was run there.")
    stated = _recommend(skills={CUSTOMVIT: (0.3, 0.1, 0.1), ("cnn", "scratch", 40): (0.31, 0.1, 0.1)} | colour)
    assert stated[0] == (
        "At every limit (256 to 4096 annotations per class) no model is significantly better than 'colour, "
        "linear_probe': none is recommended."
    ), "all are better than the largest class, which is no reason"


def test_a_limit_at_which_a_model_beats_the_baselines_is_not_joined_with_those_where_none_does() -> None:
    """Limits without a recommendation took the next one in, whatever it showed."""
    skills = {
        CUSTOMVIT: (0.3, 0.1, 0.1),
        ("cnn", "scratch", 40): (0.3, 0.1, 0.1),
        ("colour", "linear_probe", 40): (0.3, 0.1, 0.1),
    }
    level, better = simulated(skills=skills), simulated(skills=dict.fromkeys(skills, (0.05, 0.1, 0.1)))
    runs = [run for run in level if run.coordinates.flag_limit < 4096 or run.coordinates.model == "colour"]
    runs += [run for run in better if run.coordinates.flag_limit == 4096 and run.coordinates.model != "colour"]
    stated = _sentences(group_by_seed(runs))
    assert stated[0].startswith("Up to 1024 annotations per class no model is significantly better than 'colour, ")
    assert stated[1].startswith("At 4096 annotations per class use ")


def test_the_highest_scoring_is_so_at_a_limit_that_is_named() -> None:
    """Trainings on a GPU state no core seconds: the model is chosen by its score at the largest limit."""
    skills = {(model, "scratch", 40): (0.1, 0.1, 0.1) for model in ("cnn", "nin", "customvit")}
    runs = [
        restated(run, latency=None, hardware={"processor": "a processor", "cores": 8, "threads": 8, "gpu": "a GPU"})
        for run in simulated(skills=skills)
    ]
    [text, *_] = _sentences(group_by_seed(runs))
    assert re.search(
        r"use \w+, the highest-scoring at 4096 of the 3 models that do not differ significantly from the ", text
    )
    assert text.endswith("from the best at any of these limits.")


def test_colour_alone_is_a_model_like_any() -> None:
    stated = _recommend(skills={("colour", "linear_probe", 40): (0.3, 0.1, 0.1)})
    assert any(text.startswith("At 4096 annotations per class colour, linear_probe has the highest") for text in stated)


def test_networks_pretrained_on_own_crops_are_not_called_trained_from_scratch() -> None:
    skills = {
        ("customvit", "mim", 40): (0.1, 0.1, 0.1),
        ("cnn", "scratch", 40): (0.1, 0.1, 0.1),
        PROBE: (0.5, 0.1, 0.1),
    }
    stated = _recommend(skills=skills)
    assert "Every pretrained model is significantly worse there." in stated[0]
    turned = _recommend(skills=skills | {PROBE: (0.0, 0.01, 0.1)})
    assert any("significantly better than every other model" in text for text in turned)
    level = _recommend(skills=skills | {PROBE: (0.1, 0.1, 0.1)})
    assert "models without published weights and pretrained ones share the lead" in level[0]


def test_limits_where_few_models_were_run_decide_nothing() -> None:
    runs = [
        run for run in simulated() if run.coordinates.flag_limit != 512 or run.coordinates.model == "efficientnet_lite0"
    ]
    stated = _sentences(group_by_seed(runs))
    assert "At 512 only some of the 5 models were run, so no model is recommended there." in stated
    assert stated[0].startswith("At 256 annotations per class use dinov2_s") or stated[0].startswith("Up to 256")


def test_a_class_in_few_specimens_does_not_decide() -> None:
    results = simulated(limits=(256,), specimens=30)
    for run in results:
        for counts in run.confusions.values():
            counts[3:, 2] = 0
    stated = _sentences(group_by_seed(results))
    assert any("has the highest widespread macro-F1" in text for text in stated)
    assert any(
        text.startswith(
            f"Widespread macro-F1 is over the classes in at least 10 test specimens, without {CLASSES[2]}: "
        )
        for text in stated
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (0.0, " lies in 3 test specimens, and its F1 is near 0. In studies simulated after two data sets"),
        (0.5, " lies in 3 test specimens. With a class in 2 of 57, 95 % intervals cover its true F1 in 96 % "),
        (1.0, " lies in 3 test specimens, and its F1 is near 1. In studies simulated after two data sets"),
    ],
)
def test_a_rare_class_that_all_or_none_find_has_no_sure_interval(found: float, words: str) -> None:
    """Simulated after EndoNuke's `other` and Chula's elliptocytes: its intervals cover far less than 95 %."""
    results = simulated(limits=(256,), specimens=30)
    for run in results:
        for counts in run.confusions.values():
            counts[3:, 2] = 0
            n = counts[:, 2].sum(axis=1)
            counts[:, 2] = 0
            counts[:, 2, 2] = (found * n).astype(int)
            counts[:, 2, 0] = n - counts[:, 2, 2]
            for other in {*range(counts.shape[1])} - {2}:
                counts[:, other, other] += counts[:, other, 2]
                counts[:, other, 2] = 0
    [stated] = [each for each in _sentences(group_by_seed(results)) if each.startswith(CLASSES[2] + words)]
    if found in (0, 1):
        assert "cover its true F1 in 67 to 96 % and the true macro-F1 in 97 % (three seeds)" in stated


def test_classes_that_no_model_learns_are_named() -> None:
    results = simulated(limits=(256,))
    for run in results:
        for counts in run.confusions.values():
            counts[:, 2, 0] += counts[:, 2, 2]
            counts[:, 2, 2] = 0
    stated = _sentences(group_by_seed(results))
    assert f"No model learns these classes: {CLASSES[2]} (F1 at most 0.00)." in stated


def test_equal_costs_are_not_called_cheapest_and_dearest() -> None:
    skills = {CUSTOMVIT: (0.25, 0.3, 0.05), ("cnn", "scratch", 40): (0.25, 0.3, 0.05)}
    [cost] = [text for text in _recommend(skills=skills) if text.startswith("A cell costs")]
    assert cost.startswith("A cell costs 2.5 ms with every model (one cell at a time")


@pytest.mark.long
@pytest.mark.parametrize("kind", range(3))
def test_few_of_the_text_s_claims_are_false(kind: int) -> None:
    """Three studies of each kind whose truth is known; claims.py has 400 of each."""
    table = claims.false_claims(claims.worlds()[kind], 3)
    assert (table["false"] < 0.5).all()
    if kind == 2:
        assert table.set_index("claim")["made in"]["the lead changes, within its interval"] > 0


def test_ends_of_a_crossing_that_are_not_known_are_no_numbers() -> None:
    assert format_limit_range([256, 4096], 0, float("inf")) == "256 or fewer to more than 4096"
    assert format_limit_range([256, 4096], 300.4, 900) == "300 to 900"


def test_classes_without_a_test_cell_are_named() -> None:
    results = simulated(limits=(256,))
    for run in results:
        for counts in run.confusions.values():
            counts[:, 2] = 0
    stated = _sentences(group_by_seed(results))
    assert f"Classes without a test cell, which were not tested: {CLASSES[2]}." in stated


def test_what_the_runs_cannot_show_is_stated() -> None:
    results = [run for run in simulated(limits=(256,), seeds=(0,), specimens=4) if run.coordinates.adapt == "scratch"]
    for run in results:
        for condition in list(run.confusions)[1:]:
            del run.confusions[condition]
    results = [restated(run, latency=None) for run in results]
    text = " ".join(_sentences(group_by_seed(results)))
    assert "No run was evaluated under blur, so slides out of focus were not tested" in text
    assert "with one seed: their intervals do not cover the spread over seeds" in text
    assert "Classes with fewer than 50 test cells, or in fewer than 10 specimens, weigh as much in macro-F1" in text
    assert re.search(rf"{re.escape(CLASSES[2])} \(\d+ cells in [34] specimens\)", text)
    assert "ms" not in text


def test_a_lone_model_is_compared_with_none() -> None:
    alone = {key: skill for key, skill in SKILLS.items() if key[0] == "customvit"}
    stated = _recommend(skills=alone)
    assert stated[0].endswith(". No other model was run there.")
    assert any(re.search(r"Against sharp cells it changes by -0.* in customvit\.$", text) for text in stated)


def test_one_seed_and_few_specimens_are_stated() -> None:
    stated = _recommend(limits=(4096,), seeds=(0,), specimens=12)
    assert stated[0] == (
        "At 4096 annotations per class nothing is significant: every model has one seed. customvit has the highest score."
    )
    assert any("No difference is significant: every model has one seed." in text for text in stated)
    assert any(
        text.startswith("The test set has 12 specimens. With 10, 95 % intervals of macro-F1 ") for text in stated
    )
    lone = _recommend(limits=(256, 4096), specimens=1)
    assert not any("significantly better" in text for text in lone if not text.startswith("The rule"))
    assert not any("nan" in text for text in lone)
    assert "No number on this page has an interval: one test specimen gives no information about others." in lone


def test_losses_out_of_focus_are_at_the_same_sigma() -> None:
    results = simulated(limits=(4096,))
    for run in results:
        if run.coordinates.model != "cnn":
            for kind in ("pre", "post"):
                del run.confusions[Condition(kind, 3.2)]
    [stated] = [text for text in _sentences(group_by_seed(results)) if text.startswith("Out of focus")]
    assert stated.startswith("Out of focus (sigma 1.6 after the resize, flag_limit 4096)")


@pytest.mark.long
def test_a_page_is_written_whatever_cards_and_names_there_are(tmp_path: Path) -> None:
    results = simulated(limits=(256, 1024), data="../a b/c")
    for i, run in enumerate(results):
        card, threads = run.stored["latency"], 7 if run.coordinates.model == "customvit" else 1
        card = card | {"hardware": card["hardware"] | {"threads": threads}}
        classes = [r"CD8$^+$ $\x$", *CLASSES[1:]]
        metrics = [
            row | {"per_class": dict(zip(classes, row["per_class"].values(), strict=True))}
            for row in run.stored["metrics"]
        ]
        results[i] = restated(run, classes=classes, metrics=metrics, latency=card)
    pack(results, tmp_path / "runs.parquet")
    page = tmp_path / "page" / "report.html"
    report.build(read_results(tmp_path / "runs.parquet"), page)
    text = page.read_text()
    assert "Milliseconds are not compared: cards of latency are of different machines" in text
    assert r"CD8$^+$ $\x$" in text
    assert (
        write_tables(compare_table.tables(group_by_seed(results)), "../a b/c", tmp_path / "tables")[0].parent
        == tmp_path / "tables"
    )


def test_links_lead_from_the_page_to_the_records(tmp_path: Path) -> None:
    [packed, *_] = simulated()
    run = replace(packed, folder=tmp_path / "my runs" / "cnn-1")
    assert report._link(run, tmp_path / "pages") == "../my%20runs/cnn-1/record.json"
    assert report._link(packed, tmp_path) is None


@pytest.mark.long
def test_cells_and_worst_errors_are_shown_where_the_crops_are(
    tmp_path: Path, folder_of_squares: Callable[..., Path]
) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "optics.via_px=16"]
    root = folder_of_squares(20, 5)
    for limit in (4, 8):
        train(config_of(tmp_path, root, *small, "trainer.max_epochs=1", f"flag_limit={limit}"))
    report.build(read_results(tmp_path / "runs"), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 10
    assert re.search(r"(red|green|blue) predicted as (red|green|blue), \d+ %", page)
    assert "The cells are not marked as synthetic. Their licence: not stated." in page
    assert "Not shown" in page
    train(config_of(tmp_path / "rendered", root, *small, "trainer.max_epochs=1", "data.synthetic=true"))
    report.build(read_results(tmp_path / "rendered" / "runs"), tmp_path / "rendered.html")
    rendered = (tmp_path / "rendered.html").read_text()
    assert "The cells are synthetic: no result on them is a result about patients." in rendered
    assert "no run has a card of latency" in page
    shutil.rmtree(tmp_path / "stores")
    shutil.rmtree(root)
    report.build(read_results(tmp_path / "runs"), tmp_path / "report.html")
    assert "The crops are not on this machine, so no cell is shown" in (tmp_path / "report.html").read_text()


@pytest.mark.long
def test_the_command_writes_one_page_and_names_it(tmp_path: Path) -> None:
    pack(simulated(limits=(256, 1024)), tmp_path / "runs.parquet")
    command = [sys.executable, str(ROOT / "experiments" / "report" / "report.py"), "runs.parquet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert files[:3] == ["report.html", "report.md", "report.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*files, "runs.parquet"])


@pytest.mark.parametrize(
    ("side", "why"),
    [
        (40, "the highest-scoring at 1024 of the 3 models that do not differ significantly from the best at any of these "
         "limits and cost the same (in milliseconds per cell)"),
        (224, "the highest-scoring at 1024 of the 2 that are cheapest (in milliseconds per cell) among the 3 models that do "
         "not differ significantly from the best at any of these limits"),
    ],
)  # fmt: skip
def test_of_equal_costs_none_is_called_the_cheapest(side: int, why: str) -> None:
    """Simulated cards: all networks from scratch cost 2.5 ms, a pretrained one what its side asks."""
    equal = (0.2, 0.2, 0.1)
    skills = {("cnn", "scratch", 40): equal, ("customvit", "scratch", 40): equal}
    third = ("nin", "scratch", 40) if side == 40 else ("uni", "linear_probe", side)
    [first, *_] = _recommend(limits=(256, 512, 1024), skills=skills | {third: equal}, specimens=57)
    assert why in first


def test_baselines_are_named_only_where_they_decide() -> None:
    """cnn equals customvit at 256 alone, nin at 1024 alone: one model stays near the best, and all beat the rule."""
    skills = {
        CUSTOMVIT: (0.1, 0.2, 0.1),
        ("cnn", "scratch", 40): (0.25, 0.05, 0.1),
        ("nin", "scratch", 40): (0, 0.4, 0.1),
    }
    [first, *_] = _recommend(limits=(256, 1024), skills=skills, specimens=57)
    assert first.endswith(
        "use customvit, the only model that does not differ significantly from the best at any of these limits."
    )


def test_the_heading_states_why_scores_may_be_too_good() -> None:
    """It is all that a slide shows of limits: synthetic cells, and cells of one specimen in training and test."""
    [group] = group_by_seed(simulated(limits=(256,), skills={("cnn", "scratch", 40): (0.1, 0.1, 0.1)}))
    real = [restated(run, data=run.stored["data"] | {"source": {"synthetic": False}}) for run in group.runs]
    assert report._heading("d", group_by_seed(real)) == "d"
    by_cell = [restated(run, audit={"by": "cell"}) for run in real]
    assert report._heading("d", group_by_seed(by_cell)) == "d (cells split at random)"
    assert report._heading("d", [group]) == "d (SYNTHETIC cells)"
