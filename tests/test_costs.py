"""What trainings cost: updates, core seconds, the pass of probes, and what is not known."""

from dataclasses import replace
from typing import Any

import cost_table
import figure_cost
import numpy as np
import pytest
from conftest import ROOT
from simulated import SKILLS, pretraining_facts, restated, simulated, with_config

from cellpatch.analysis.costs import TrainingCost, machines, training_cost
from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.results import read_results
from cellpatch.analysis.run_result import RunResult
from cellpatch.figures.captions import cost_caption

HARDWARE = {"processor": "one", "cores": 8, "threads": 4, "gpu": None}
ON_GPU = HARDWARE | {"gpu": "H100"}
CNN = {key: SKILLS[key] for key in SKILLS if key[0] == "cnn"}
PROBES = {key: SKILLS[key] for key in SKILLS if key[1] in ("linear_probe", "knn")}


def _cost(*runs: RunResult) -> TrainingCost:
    groups = group_by_seed(runs)
    return training_cost(groups[0], groups)


def _trained(**facts: Any) -> list[RunResult]:
    """Three seeds of one training, of 10, 20 and 60 seconds on four threads."""
    runs = simulated(limits=(256,), skills=CNN)
    known = {"hardware": HARDWARE} | facts
    return [restated(run, seconds={"train": seconds}, **known) for run, seconds in zip(runs, (10, 20, 60), strict=True)]


def test_core_seconds_are_the_median_of_wall_seconds_times_threads() -> None:
    runs = [
        restated(run, updates=n, best_validation=kept)
        for run, n, kept in zip(_trained(), (100, 300, 200), ("last", None, "last"), strict=True)
    ]
    assert _cost(*runs) == TrainingCost(
        updates=200, core_seconds=4 * 20, gpu_seconds=None, pass_core_seconds=None, trainings=3, best_at_last=2
    )


def test_a_pretraining_is_part_of_the_cost() -> None:
    before = pretraining_facts(30.0, embed_seconds=7.0, threads=2)
    assert _cost(*_trained(pretraining=before)).core_seconds == 4 * 20 + 2 * 37
    on_gpu = pretraining_facts(30.0, device="cuda")
    assert _cost(*_trained(pretraining=on_gpu)).core_seconds is None
    assert _cost(*_trained(pretraining=on_gpu, hardware=ON_GPU)).gpu_seconds is None, "the pretraining's are not stated"


def test_what_a_record_does_not_state_is_not_known() -> None:
    nothing = TrainingCost(
        updates=None, core_seconds=None, gpu_seconds=None, pass_core_seconds=None, trainings=0, best_at_last=0
    )
    assert _cost(*_trained(hardware=None)) == nothing
    on_gpu = _trained(hardware=ON_GPU)
    assert _cost(*on_gpu) == replace(nothing, gpu_seconds=20), "its threads waited for the GPU"
    assert _cost(on_gpu[0], *_trained()[1:]) == nothing, "no median over two kinds"
    beside = [with_config(run, "trainer", accelerator="cpu", devices=1) for run in _with_trainer(on_gpu)]
    assert _cost(*beside).core_seconds == 80
    several = [with_config(run, "trainer", devices=2) for run in _with_trainer(on_gpu)]
    assert _cost(*several) == nothing, "of two GPUs"
    several = [with_config(run, "trainer", devices=2) for run in _with_trainer(_trained())]
    assert _cost(*several) == nothing, "the threads of each process are not stated"
    first, *rest = _trained()
    assert _cost(restated(first, hardware=None), *rest).core_seconds is None, "no median of some seeds"


def _with_trainer(runs: list[RunResult]) -> list[RunResult]:
    return [restated(run, config=run.stored["config"] | {"trainer": {}}) for run in runs]


def _probes(passes: dict[str, float]) -> list[SeedGroup]:
    """Probes of two seeds; `passes` are seconds of embedding, by the name of the run; other runs read features."""
    runs = [
        restated(
            with_config(run, "adapt", augmented_copies=0),
            hardware=HARDWARE,
            seconds={"train": 2.0, "embed": passes.get(run.run, 0.001)},
        )
        for run in simulated(limits=(256, 512), seeds=(0, 1), skills=PROBES)
    ]
    return group_by_seed(runs)


def test_probes_of_a_model_share_the_pass_that_made_their_features() -> None:
    groups = _probes({"dinov2_s-linear_probe-512-224-s0": 100.0, "dinov2_s-linear_probe-512-224-s1": 50.0})
    costs = {
        (group.coordinates.model, group.coordinates.input_px, group.coordinates.flag_limit): training_cost(
            group, groups
        )
        for group in groups
    }
    for limit in (256, 512):
        cost = costs["dinov2_s", 224, limit]
        assert (cost.core_seconds, cost.pass_core_seconds) == (4 * (2 + 100), 4 * 100)
        assert costs["dinov2_s", 56, limit].core_seconds is None, "all of them only read"
        assert costs["efficientnet_lite0", 64, limit].pass_core_seconds is None


def test_the_table_and_the_figure_name_what_is_not_known() -> None:
    groups = [*_probes({"dinov2_s-linear_probe-512-224-s0": 100.0}), *group_by_seed(_trained(updates=50))]
    [table] = cost_table.tables(groups)
    shown = table.shown.set_index(["model", "input", "limit"])
    assert shown.loc[("dinov2_s", 224, 512), "core seconds"] == "408"
    assert shown.loc[("dinov2_s", 224, 512), "of them the pass"] == "400"
    assert shown.loc[("dinov2_s", 56, 512), "core seconds"] == "-"
    assert shown.loc[("cnn", 40, 256), ["updates", "core seconds", "best at last"]].tolist() == ["50", "80", "0 of 3"]
    drawing = figure_cost.draw("simulated", groups)
    assert drawing.caption.endswith(
        " Hours are not known at 256, 512: dinov2_s, linear_probe, 56 px; efficientnet_lite0, knn."
    )
    assert [ax.get_title(loc="left") for ax in drawing.figure.axes] == ["trained from scratch", "dinov2_s, 224 px"]
    curves = [line for ax in drawing.figure.axes for line in ax.lines if line.get_linestyle() != ":"]  # not the rule's
    drawn = np.concatenate([line.get_xdata() for line in curves])
    assert {round(float(x) * 3600) for x in drawn} == {80, 408}
    nothing = group_by_seed(_trained(hardware=None))
    for script in (cost_table.tables, lambda of: figure_cost.draw("simulated", of)):
        with pytest.raises(ValueError, match=r"no record states .*seconds and threads or GPU of a training"):
            script(nothing)


def test_trainings_on_a_gpu_have_a_panel_and_a_column_of_their_own() -> None:
    on_cpu = _probes({"dinov2_s-linear_probe-512-224-s0": 100.0})
    groups = [*on_cpu, *group_by_seed(_trained(hardware=ON_GPU))]
    [table] = cost_table.tables(groups)
    row = table.shown.set_index(["model", "limit"]).loc[("cnn", 256)]
    assert row[["core seconds", "GPU seconds"]].tolist() == ["-", "20"]
    drawing = figure_cost.draw("simulated", groups)
    axes = drawing.figure.axes
    assert [(ax.get_title(loc="left"), ax.get_xlabel()) for ax in axes] == [
        ("dinov2_s, 224 px", "core hours of a training"),
        ("trained from scratch", "GPU hours of a training"),
    ]
    marks = [line for line in axes[1].lines if line.get_linestyle() != ":"]
    assert {round(float(x) * 3600) for line in marks for x in line.get_xdata()} == {20}
    assert "Macro-F1 against core hours and GPU hours" in drawing.caption
    assert "GPU time is the wall time" in drawing.caption
    assert "GPU" not in figure_cost.draw("simulated", on_cpu).caption


def test_the_caption_says_that_times_of_machines_do_not_compare() -> None:
    one, other, third = _trained()
    assert "do not compare" not in cost_caption(machines([one, other]), on_gpu=False)
    assert cost_caption(machines([one, other]), on_gpu=False).endswith(" On one, 4 threads.")
    runs = [one, restated(other, hardware=HARDWARE | {"processor": "another"}), third]
    words = " Machines or threads differ, so times cannot be compared: another, 4 threads; one, 4 threads."
    assert cost_caption(machines(runs), on_gpu=False).endswith(words)
    assert words in figure_cost.draw("simulated", group_by_seed(runs)).caption


def test_packed_runs_of_0_3_0_state_core_seconds_but_no_updates() -> None:
    groups = group_by_seed(read_results(ROOT / "experiments" / "results" / "synthetic.parquet"))
    [of_data] = data_sets(groups).values()
    table = cost_table.summarise(of_data)
    assert table["updates"].isna().all()
    assert (table["core_seconds"] > 90).all()
    assert table.loc[table["adapt"] == "linear_probe", "pass_core_seconds"].nunique() == 1
