"""Figures from results: what they draw, what they say below, what they refuse."""

import dataclasses
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise, product
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import figure2
import figure3
import figure4
import figure5
import figure_blur
import figure_blurred_cell
import figure_calibration
import figure_cells
import figure_class_f1
import figure_classes
import figure_confusion
import figure_counts
import figure_customvit
import figure_faults
import figure_features
import figure_input_side
import figure_planner
import figure_reliability
import figure_separability
import figure_specimens
import figure_training
import make_all
import matplotlib.image
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image
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
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import nn

from cellpatch.analysis import cells
from cellpatch.analysis.curves import learning_curves
from cellpatch.analysis.estimates import difference, mean_over_seeds, paired
from cellpatch.analysis.groups import SeedGroup, data_sets, group_by_seed
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.cli.figures import main_of_figure
from cellpatch.config.schema import models
from cellpatch.data.store.reader import CellStore, Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.figures import one_cell
from cellpatch.figures.captions import axis_label, mixed_code_caption, prior_caption
from cellpatch.figures.families import families, spread
from cellpatch.figures.palette import STUDY, assign_styles, group_style, model_style
from cellpatch.figures.panels import BlurCurve
from cellpatch.figures.plotting import PAGE_MM, Drawing, log_axis, new_figure, save, styled
from cellpatch.figures.svg import to_svg
from cellpatch.metrics.classification import Scores
from cellpatch.metrics.scores import macro_f1
from cellpatch.models.customvit import CustomViT
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.coordinates import CurveCoordinates
from cellpatch.runtime.atomic_io import atomic_directory

FIGURES = {name: make_all.load(file) for name, file in make_all.script_files("figures").items()}
RESULTS = on_cohort(simulated())
GROUPS = group_by_seed(RESULTS)
AT_FIELDS = group_by_seed([run for um in (10.0, 20.0) for run in at_field(simulated(limits=(256,)), um)])
# What packed runs of one field do not allow: crops, predicted cells, several fields.
NOT_OF_PACKED = [
    "figure_blurred_cell",
    "figure_cells",
    "figure_faults",
    "figure_field",
    "figure_referral",
    "figure_sets",
]
TABLES_NOT_OF_PACKED = ["ensemble_table", "field_table", "referral_table", "sets_table"]


@pytest.fixture(autouse=True, scope="module")
def _crops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A store of noise that the simulated runs are on: as many cells as they have test cells; and predicted cells."""
    n, specimens = GROUPS[0].n_test, GROUPS[0].n_specimens
    root = tmp_path_factory.mktemp("stores")
    names = [f"c{i}" for i in range(n)]
    noise = np.random.default_rng(0).integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    with (
        atomic_directory(root / "store") as folder,
        StoreWriter(folder, CLASSES, Geometry(8, 2), {"kind": "test"}) as writer,
    ):
        labels = [CLASSES[i % len(CLASSES)] for i in range(n)]
        of = [f"s{i % specimens}" for i in range(n)]
        rows = CellRows(cell_id=names, label=labels, specimen=of, source=names)
        writer.add(noise, rows)
    fingerprint = CellStore(root / "store").manifest.fingerprint
    placed = [with_config(run, "data", loading={"store_dir": str(root)}) for run in RESULTS]
    placed = [restated(run, data=run.stored["data"] | {"fingerprint": fingerprint}) for run in placed]
    RESULTS[:] = in_folders(placed, root)
    GROUPS[:] = group_by_seed(RESULTS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cells, "_opened", cells_of)
        yield


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_named_as_its_file_and_says_what_it_is_of(name: str, tmp_path: Path) -> None:
    drawing = FIGURES[name].draw("simulated", AT_FIELDS if name == "figure_field" else GROUPS)
    assert drawing.name == name
    if name != "figure_customvit":  # of the network, not of cells
        assert "simulated" in drawing.caption
        assert "1835" in drawing.caption, "n"
        assert "synthetic" in drawing.caption
    files = save(drawing, tmp_path)
    assert [file.name for file in files] == [f"{name}.{kind}" for kind in ("png", "pdf", "txt")]
    drawn = matplotlib.image.imread(files[0])[..., :3]
    assert (drawn.min(axis=2) < 0.5).mean() > 0.002, "there is ink"
    edge = np.concatenate([drawn[:, :2].ravel(), drawn[:, -2:].ravel(), drawn[-2:].ravel()])
    assert (edge > 0.99).all(), "nothing is cut off at the edge"


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_a_page_can_tell_each_value(name: str) -> None:
    drawing = FIGURES[name].draw("simulated", AT_FIELDS if name == "figure_field" else GROUPS)
    root = ElementTree.fromstring(to_svg(drawing.figure, "one", drawing.caption))  # noqa: S314
    tips = [element for element in root.iter() if element.get("data-tip")]
    assert len(tips) >= 3
    assert all(tip.get("tabindex") == "0" and tip.get("aria-label") == tip.get("data-tip") for tip in tips)
    assert root.get("aria-label") == drawing.caption
    assert "$" not in "".join(root.itertext()), "no formula is left unset"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(str(each).startswith("one-") for each in ids)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key.endswith("href") and value.startswith("#"):
                assert value[1:] in ids, "a reference leads somewhere"


@pytest.mark.long
def test_crossings_are_marked_where_the_simulation_has_them() -> None:
    caption = figure3.draw("simulated", GROUPS).caption
    assert (
        "customvit (grey), the best from scratch at 4096, stays ahead of dinov2_s, linear_probe, 56 px from" in caption
    )
    assert "1835 synthetic test cells of 30 specimens; 3 seeds; 95 % intervals over specimens and seeds." in caption
    real = [restated(run, data=run.stored["data"] | {"source": {"synthetic": False}}) for run in RESULTS]
    assert "1835 test cells of 30 specimens" in figure3.draw("simulated", group_by_seed(real)).caption
    apart = simulated(skills={**SKILLS, ("customvit", "scratch", 40): (0.0, 0.05, 0.1)})
    assert "it crosses no curve between common limits" in figure3.draw("simulated", group_by_seed(apart)).caption
    other_way = figure3.draw("simulated", group_by_seed(simulated(skills=OTHER_WAY)))
    assert re.search(r"customvit \(grey\), .*, is behind dinov2_s, linear_probe from \d+ \(\d+ to", other_way.caption)
    assert [line.get_marker() for line in other_way.figure.axes[1].lines][-1] == "v"


def test_missing_runs_are_gaps_that_the_caption_names() -> None:
    results = [run for run in RESULTS if (run.coordinates.model, run.coordinates.flag_limit) != ("cnn", 512)]
    drawing = figure3.draw("simulated", group_by_seed(results))
    assert "No runs at 512: cnn." in drawing.caption
    lines = [line for line in drawing.figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert [int(np.isnan(line.get_ydata()).sum()) for line in lines] == [1, 0]


def test_every_curve_has_its_gaps() -> None:
    """A limit, a sigma or a side that one lacks is not a line across it, and the caption names it."""
    lacks = [run for run in RESULTS if (run.coordinates.model, run.coordinates.flag_limit) != ("customvit", 512)]
    drawing = figure_classes.draw("simulated", group_by_seed(lacks))
    assert "No runs at 512: customvit." in drawing.caption
    assert any(np.isnan(line.get_ydata()).sum() == 1 for line in drawing.figure.axes[0].lines)
    fewer = simulated(limits=(1024,))
    for run in fewer:
        if run.coordinates.model == "cnn":
            run.confusions.pop(Condition("post", 0.8))
    drawing = figure_blur.draw("simulated", group_by_seed(fewer))
    assert "Not evaluated at sigma 0.8: cnn." in drawing.caption
    sides = {("dinov2_s", "knn", side): (0.3, 0.2, 0.1) for side in (56, 112, 224)}
    results = simulated(limits=(256, 512), skills=sides)
    partial = [run for run in results if (run.coordinates.flag_limit, run.coordinates.input_px) != (512, 112)]
    drawing = figure_input_side.draw("simulated", group_by_seed(partial))
    assert "No runs with 112 px: dinov2_s, knn at 512." in drawing.caption
    only = {"cnn": 256, "customvit": 4096}
    elsewhere = [
        run
        for run in RESULTS
        if run.coordinates.flag_limit == only.get(run.coordinates.model, run.coordinates.flag_limit)
    ]
    assert "No runs at 4096: cnn." in figure_blur.draw("simulated", group_by_seed(elsewhere)).caption


def test_one_thing_has_one_name_in_all_figures() -> None:
    lone = [run for run in RESULTS if run.coordinates.input_px != 224 or run.coordinates.flag_limit == 256]
    for figure in (figure3, figure_blur):
        axes = figure.draw("simulated", group_by_seed(lone)).figure.axes
        names = {f"{ax.get_title(loc='left')}, {text.get_text()}" for ax in axes for text in ax.texts}
        assert "dinov2_s, linear_probe, 56 px" in names, figure.__name__


def test_many_classes_tell_their_shares_too() -> None:
    """Numbers would touch; a mark without ink has the words."""
    results = simulated(limits=(256,), seeds=(0,))
    for run in results:
        run.confusions.update({c: np.pad(of, ((0, 0), (0, 15), (0, 15))) for c, of in run.confusions.items()})
    rare = [f"rare {i}" for i in range(15)]
    none = {"n_test": 0, "precision": None, "recall": None, "f1": None}
    for i, run in enumerate(results):
        metrics = [
            row
            | {"per_class": row["per_class"] | dict.fromkeys(rare, none)}
            | {"confusion": np.pad(row["confusion"], (0, 15)).tolist()}
            for row in run.stored["metrics"]
        ]
        results[i] = restated(run, classes=[*CLASSES, *rare], metrics=metrics)
    svg = to_svg(figure_confusion.draw("simulated", group_by_seed(results)).figure, "f", "words")
    assert "% of stroma were predicted as epithelium" in svg


def test_a_figure_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack([*RESULTS[:12], *simulated(data="other")[:12]], tmp_path / "runs.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["figure3.py", "runs.parquet"])
    main_of_figure(figure3.draw)
    kinds = ("png", "pdf", "txt")
    output = capsys.readouterr().out.split()
    assert output == [f"figures/figure3-{data}.{kind}" for data in ("other", "simulated") for kind in kinds]


def test_the_front_is_of_what_none_beats() -> None:
    points = {"cheap": (1.0, 0.5), "dear": (9.0, 0.9), "worse": (2.0, 0.4), "equal": (2.0, 0.5), "middle": (3.0, 0.7)}
    assert figure2.pareto(points) == ["cheap", "middle", "dear"]


def test_cards_of_two_machines_are_not_compared() -> None:
    of_two = simulated(limits=(256,))
    card = of_two[0].stored["latency"]
    of_two[0] = restated(of_two[0], latency=card | {"hardware": card["hardware"] | {"cores": 64}})
    with pytest.raises(ValueError, match="of different machines or threads"):
        figure2.draw("simulated", group_by_seed(of_two))


def test_the_planner_tells_what_the_simulation_was_made_with() -> None:
    [curve] = [c for c in learning_curves(GROUPS) if c.coordinates.model == "customvit"]
    plan = figure_planner.plan(curve)
    assert plan.refusal is None
    for target, (value, low, high) in zip(plan.targets, plan.limits, strict=True):
        true = 256 * (0.60 / (1 - 0.05 - target)) ** 2 if target < 0.9 else np.nan
        assert low <= value <= high
        if 300 < true < 4096:
            assert 0.5 < value / true < 2


def test_degradation_rates_are_those_of_the_simulation() -> None:
    for group in GROUPS:
        if group.coordinates.flag_limit == 4096:
            loss = SKILLS[group.coordinates.model, group.coordinates.adapt, group.coordinates.input_px][2]
            assert figure5.rate(group, "post").mean == pytest.approx(-loss, abs=0.02)
            assert figure5.rate(group, "pre").mean == pytest.approx(-0.7 * loss, abs=0.02)


def test_what_cannot_be_drawn_says_what_to_do() -> None:
    clean = simulated(limits=(256,))
    for run in clean:
        for condition in list(run.confusions)[1:]:
            del run.confusions[condition]
    clean = [restated(run, latency=None, features=None) for run in clean]
    groups = group_by_seed([run for run in clean if run.coordinates.input_px != 224])
    for module, message in (
        (figure2, "no run has a card of latency"),
        (figure4, "no run was evaluated under blur: optics=blur"),
        (figure_input_side, "several input sides"),
        (figure_planner, "two flag_limits"),
        (figure_specimens, "no run has a card of its features: cellpatch features"),
        (figure_separability, "no run has a card of its features"),
    ):
        assert isinstance(module, ModuleType)
        with pytest.raises(ValueError, match=message):
            module.draw("simulated", groups)


def test_runs_that_differ_in_something_hidden_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="are the same run: name it once"):
        group_by_seed([RESULTS[0], RESULTS[0]])
    other = with_config(RESULTS[0], "adapt", lr=0.001)
    with pytest.raises(ValueError, match="runs that differ in more than data, model") as caught:
        group_by_seed([RESULTS[0], other])
    assert "\n  adapt.lr: not stated | 0.001\n" in str(caught.value)
    assert "Keep one value of adapt.lr: choose runs by --where KEY=VALUE" in str(caught.value)
    with pytest.raises(ValueError, match="on other test cells have no common mean"):
        group_by_seed([RESULTS[0], simulated(specimens=9)[1]])
    with pytest.raises(ValueError, match="runs on simulated have different test cells"):
        data_sets(group_by_seed([RESULTS[0], simulated(specimens=9)[20]]))


@pytest.mark.long
def test_one_command_makes_all_that_the_runs_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {key: skill for key, skill in SKILLS.items() if key[0] in ("customvit", "dinov2_s")}
    pack(on_cohort(simulated(limits=(256, 512), seeds=(0,), skills=few)), tmp_path / "runs.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_all.py", "all", "runs.parquet"])
    with pytest.raises(SystemExit, match="0"):
        make_all.main()
    assert [
        line.partition(": ")[2].partition(":")[0] for line in capsys.readouterr().out.splitlines() if "not made" in line
    ] == [f"{name} of simulated" for name in (*NOT_OF_PACKED, *TABLES_NOT_OF_PACKED)]
    drawn = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert drawn == set(FIGURES) - set(NOT_OF_PACKED)
    assert len(list((tmp_path / "tables").glob("*.tex"))) > 5
    monkeypatch.setattr(sys, "argv", ["make_all.py", "figures", "nothing.parquet"])
    with pytest.raises(SystemExit, match="error: nothing.parquet must be a folder of runs"):
        make_all.main()
    monkeypatch.setattr(sys, "argv", ["make_all.py", "tables", "runs.parquet", "figure3"])
    with pytest.raises(SystemExit, match="error: figure3: must be of blur_table, compare_table"):
        make_all.main()
    monkeypatch.setattr(sys, "argv", ["make_all.py", "tables", "runs.parquet", "cost_table"])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        make_all.main()
    shown = capsys.readouterr().out
    assert re.findall(r"^tables/.*", shown, re.M) == [f"tables/cost-simulated.{kind}" for kind in ("csv", "md", "tex")]
    older = tmp_path / "figures" / "figure3-other.png"
    older.touch()
    monkeypatch.setattr(sys, "argv", ["make_all.py", "figures", "runs.parquet", "figure3"])
    with pytest.raises(SystemExit, match="0"):
        make_all.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "left from an earlier command: figures/figure3-other.png"


def test_cells_shown_are_of_their_class_and_of_many_specimens() -> None:
    store = CellStore(next(Path(RESULTS[0].record.settings.data.loading.store_dir).iterdir()))
    cells = figure_cells.pick(store, CLASSES[1])
    about = store.cells.iloc[cells]
    assert set(about["class"]) == {CLASSES[1]}
    assert len(about) == figure_cells.ACROSS
    assert about["specimen"].nunique() == min(figure_cells.ACROSS, 10), "every third of 30 specimens has this class"
    strip = figure_cells.strip(store, cells)
    np.testing.assert_array_equal(strip[:, 10:18], store.crops(cells)[1, 2:10, 2:10])


def test_the_blurred_cell_is_seen_as_a_network_sees_it() -> None:
    store = CellStore(next(Path(RESULTS[0].record.settings.data.loading.store_dir).iterdir()))
    row = one_cell.sharpest(store)
    crop = store.crops(np.array([row]))[0]
    margin, side = store.geometry.margin_px, store.geometry.crop_px
    clean = one_cell.under(crop, store, CLEAN)
    image = Image.fromarray(crop[margin : margin + side, margin : margin + side])
    by_pillow = np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR)) / 255
    inner = slice(5, 35)  # at its border Pillow does not know the margin
    np.testing.assert_allclose(clean[inner, inner], by_pillow[inner, inner], atol=2 / 255)
    for kind in figure_blurred_cell.ROWS:
        seen = [one_cell.under(crop, store, Condition(kind, sigma)) for sigma in figure_blurred_cell.SIGMAS]
        steps = [np.abs(np.diff(each, axis=0)).mean() for each in [clean, *seen]]
        assert steps == sorted(steps, reverse=True), "the wider the blur, the smaller the steps between pixels"
    photographed = {"source": {"synthetic": False, "licence": "none"}}
    real = [restated(run, data=run.stored["data"] | photographed) for run in RESULTS]
    for runs, start in ((RESULTS, "One SYNTHETIC cell ("), (real, "One cell (")):
        caption = figure_blurred_cell.draw("simulated", group_by_seed(runs)).caption
        assert caption.startswith(start)
        assert f"the crop of {side} px" in caption
    largest = max(abs(each).max() for each in figure_blurred_cell.differences(crop, store))
    assert f"they differ by at most {256 * largest:.1f} of 256 levels" in caption
    assert largest > 0.002, "crops of 8 px are resized"


def test_the_cell_under_faults_is_shown_at_every_strength() -> None:
    drawing = figure_faults.draw("simulated", group_by_seed(RESULTS))
    titles = [ax.get_title("left") for ax in drawing.figure.axes if ax.images]
    conditions = sum(map(len, figure_faults.LEVELS.values()))
    assert (len(titles), titles.count("clean")) == (conditions + len(figure_faults.LEVELS), len(figure_faults.LEVELS))
    assert {"jpeg 90", "pale stain 40", "dust 10"} <= set(titles)
    assert "darker, brighter: % of the intensity" in drawing.caption


def test_what_one_data_set_lacks_another_still_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = {key: skill for key, skill in SKILLS.items() if key[0] == "cnn"}
    sharp = simulated(limits=(256,), seeds=(0,), skills=few, data="sharp")
    for run in sharp:
        for condition in list(run.confusions)[1:]:
            del run.confusions[condition]
    both = data_sets(group_by_seed([*sharp, *simulated(limits=(256,), seeds=(0,), skills=few, data="blurred")]))
    output = dict(make_all.make(both, "figures", ["figure_blur"]))
    assert [file.name for file in output["figure_blur"]] == [
        f"figure_blur-blurred.{kind}" for kind in ("png", "pdf", "txt")
    ]
    assert "no run was evaluated under blur" in str(output["figure_blur of sharp"])


def test_seeds_pair_where_they_can() -> None:
    assert paired([(0, 1, 2), (2, 0)]) == [[0, 2], [1, 0]]
    assert paired([(0, 1), (5,)]) == [[0], [0]]
    one, other = (
        next(g for g in GROUPS if g.coordinates.model == m).estimate(CLEAN, macro_f1) for m in ("cnn", "customvit")
    )
    elsewhere = dataclasses.replace(other, seeds=(7, 8, 9))
    apart, unpaired = difference(one, other), difference(one, elsewhere)
    assert apart.mean == pytest.approx(unpaired.mean) == pytest.approx(one.mean - other.mean)
    assert unpaired.seeds == (0, 1, 2)
    first = {"values": other.values[:1], "draws": other.draws[:, :1], "without": other.without[:, :1]}
    only = dataclasses.replace(other, **first, seeds=(1,))
    assert difference(one, only).mean == pytest.approx(one.values[1] - other.values[0])


def test_no_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no finished run"):
        read_results(tmp_path)


def test_every_model_has_a_look_of_its_own() -> None:
    names = list(models())
    styles = {name: model_style(name) for name in [*names, "gone"]}
    assert len({(style.color, style.marker) for style in styles.values()}) == len(names) + 1
    assert len({styles[name].color for name in STUDY}) == 8


def test_models_of_one_s_own_have_looks_and_move_no_other() -> None:
    pretrained = models()
    more = {f"a{n}": n % 2 == 0 for n in range(20)}
    styles = assign_styles(dict(sorted((pretrained | more).items())))
    assert len({(style.color, style.marker) for style in styles.values()}) == len(styles) == len(pretrained) + 20
    for name in STUDY:
        assert styles[name] == model_style(name)


@pytest.mark.parametrize(("adapt", "usual", "other"), [("scratch", 40, 64), ("linear_probe", 224, 56)])
def test_another_input_side_is_hollow(adapt: str, usual: int, other: int) -> None:
    assert group_style(CurveCoordinates("d", 10.0, "cnn", adapt, usual, "via 40 px")).fillstyle == "full"
    assert group_style(CurveCoordinates("d", 10.0, "cnn", adapt, other, "via 40 px")).fillstyle == "none"


# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB
SEEN_BY = {
    "all cones": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


@pytest.mark.parametrize("who", SEEN_BY)
def test_colour_blind_readers_can_distinguish_colours(who: str) -> None:
    def seen(name: str) -> np.ndarray:
        rgb = np.array(to_rgb(model_style(name).color))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = (np.array(SEEN_BY[who]) @ linear).clip(0, 1)
        return rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))

    def apart(pair: tuple[str, str]) -> float:
        return float(deltaE_ciede2000(*map(seen, pair)))

    together = [*combinations([*STUDY, "customvit_s"], 2), *product(STUDY, ["dinov2_s", "efficientnet_lite0"])]
    assert min(map(apart, together)) > 11, min(together, key=apart)
    looks = {name: model_style(name) for name in models()}
    alike = [pair for pair in combinations(looks, 2) if looks[pair[0]].marker == looks[pair[1]].marker]
    assert min(map(apart, alike)) > 17, min(alike, key=apart)


def test_a_drawing_without_tips_is_a_page_s_too() -> None:
    drawing = figure_counts.draw("simulated", GROUPS)
    vars(drawing.figure).pop("_tips")
    assert "data-tip" not in to_svg(drawing.figure, "two", Drawing("two", drawing.figure, "words").caption)


@pytest.mark.parametrize(
    ("low", "high", "output"),
    [
        (16, 64, ["20", "30", "40", "60"]),
        (8, 12, ["8", "9", "10"]),
        (0.5, 4000, ["1", "10", "100", "1000"]),
        (0.025, 0.11, ["0.03", "0.04", "0.06", "0.1"]),
    ],
)
def test_a_log_axis_has_numbers_however_short_it_is(low: float, high: float, output: list[str]) -> None:
    figure, [axes] = new_figure(height_mm=40)
    axes.plot([low, high], [0, 1])
    log_axis(axes)
    figure.canvas.draw()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    ticks = [*ticks, *zip(axes.get_xticks(minor=True), axes.get_xticklabels(minor=True), strict=True)]
    left, right = axes.get_xlim()
    shown = [(place, label.get_text()) for place, label in ticks if left <= place <= right and label.get_text()]
    assert [text for _, text in sorted(shown)] == output


def test_limits_beside_input_sides_are_not_written_over_each_other() -> None:
    [axes] = figure_input_side.draw("simulated", GROUPS).figure.axes
    heights = sorted(text.xy[1] for text in axes.texts)
    low, high = axes.get_ylim()
    assert len(heights) > 2
    assert np.diff(heights).min() >= 0.039 * (high - low)


def test_figure4_and_figure5_compare_models_at_the_same_sigmas() -> None:
    runs = simulated(limits=(4096,), seeds=(0,))
    some, last = runs[:-1], runs[-1]
    few = {c: counts for c, counts in last.confusions.items() if c.sigma < 1.6}
    caption = figure4.draw("d", group_by_seed([*some, dataclasses.replace(last, confusions=few)])).caption
    assert "of sigma 1.6" in caption
    assert "Not evaluated at that sigma: efficientnet_lite0, knn." in caption
    caption = figure5.draw("d", group_by_seed([*some, dataclasses.replace(last, confusions=few)])).caption
    assert "(post at 0, 0.4, 0.8, 1.6, 3.2; pre at 0, 0.4, 0.8, 1.6, 3.2)" in caption
    assert "Not evaluated at these sigmas: efficientnet_lite0, knn." in caption

    def without(kind: str, sigma: float) -> list:
        lacks = Condition(kind, sigma)
        kept = [{c: counts for c, counts in run.confusions.items() if c != lacks} for run in runs]
        return [dataclasses.replace(run, confusions=own) for run, own in zip(runs, kept, strict=True)]

    assert "of sigma 0.8" in figure4.draw("d", group_by_seed(without("pre", 1.6))).caption


def test_a_model_trained_on_blur_stands_beside_its_clean_twin() -> None:
    runs = simulated(limits=(4096,), skills={("cnn", "scratch", 40): SKILLS["cnn", "scratch", 40]})
    trained = [with_config(run, "optics", train=[0.0, 3.2]) for run in runs]
    caption = figure5.draw("d", group_by_seed([*runs, *trained])).figure
    labels = [text.get_text() for text in caption.axes[0].get_yticklabels()]
    assert sorted(labels) == ["cnn\nvia 40 px", "cnn\nvia 40 px, trained on post and pre 0 to 3.2"]


def test_a_model_blurred_for_some_seeds_is_drawn_by_those_and_others_are_named() -> None:
    results = simulated(limits=(4096,))
    for run in results:
        if (
            run.coordinates.model == "cnn" and run.coordinates.seed > 0
        ) or run.coordinates.model == "efficientnet_lite0":
            for condition in list(run.confusions)[1:]:
                del run.confusions[condition]
    for figure in (figure4, figure5, figure_blur):
        drawing = figure.draw("d", group_by_seed(results))
        texts = [text.get_text() for ax in drawing.figure.axes for text in [*ax.get_yticklabels(), *ax.texts]]
        assert any("cnn" in text for text in texts), figure.__name__
        assert "1 or 3 seeds" in drawing.caption
        assert re.search(r"Not evaluated [a-z ]+: efficientnet_lite0, knn\.", drawing.caption), drawing.caption


def test_one_test_specimen_gives_no_interval() -> None:
    drawing = figure3.draw("d", group_by_seed(simulated(limits=(256, 4096), specimens=1)))
    assert "no intervals: one test specimen gives no information about others." in drawing.caption
    assert "nan" not in drawing.caption
    tips = vars(drawing.figure)["_tips"].values()
    assert all(re.fullmatch(r".* macro-F1 0\.\d{3} at \d+, 3 seeds", text) for text in tips if "macro-F1" in text)


def test_a_figure_grows_with_its_panels() -> None:
    def height(n: int) -> float:
        skills = {(model, "scratch", 40): (0.1, 0.2, 0.1) for model in list(models())[:n]}
        groups = group_by_seed(simulated(limits=(256,), skills=skills))
        return FIGURES["figure_separability"].draw("d", groups).figure.get_figheight()

    assert height(12) > height(3) + 0.3


def test_curves_are_split_into_panels_that_can_be_read() -> None:
    ways = [("dinov2_s", way, side) for way in ("linear_probe", "knn", "ft_all", "lora") for side in (56, 224)]
    ways += [("efficientnet_lite0", "knn", 64), ("efficientnet_lite0", "lora", 64)]
    drawn = [*STUDY, "colour", "dinov2_l", "dinov2_s", "efficientnet_lite0"]
    skills = {(model, "scratch", 40): (0.1, 0.2, 0.1) for model in drawn} | dict.fromkeys(ways, (0.2, 0.2, 0.1))
    groups = group_by_seed(simulated(limits=(256,), skills=skills))
    found = families({label: group.coordinates for label, group in by_label(groups, groups).items()})
    assert [(family.title, len(family.members)) for family in found] == [
        ("trained from scratch", 10),
        ("trained from scratch", 2),
        ("dinov2_s", 8),
        ("efficientnet_lite0, 64 px", 2),
    ]
    looks = {(m.style.color, m.style.marker, m.style.fillstyle) for m in found[2].members.values()}
    assert len(looks) == 8, "each way and side has its own"
    assert {member.short for member in found[3].members.values()} == {"knn", "lora"}


@pytest.mark.parametrize("figure", ["figure3", "figure_blur"])
@pytest.mark.parametrize(
    ("ways", "pages"), [(("linear_probe", "knn"), 1), (("linear_probe", "knn", "ft_last", "ft_all", "lora"), 6 / 4)]
)
def test_many_pretrained_models_share_a_panel_a_way(figure: str, ways: tuple[str, ...], pages: float) -> None:
    names = [name for name, pretrained in models().items() if pretrained][:6]
    skills = dict.fromkeys(((name, way, 224) for name in names for way in ways), (0.2, 0.2, 0.1))
    groups = group_by_seed(simulated(limits=(256, 1024), skills={("cnn", "scratch", 40): (0.1, 0.2, 0.1)} | skills))
    one_limit = [group for group in groups if group.coordinates.flag_limit == 256]
    found = families({label: group.coordinates for label, group in by_label(one_limit, groups).items()})
    assert {family.title for family in found} == {"trained from scratch", *ways}
    assert all([member.short for member in family.members.values()] == names for family in found[1:])
    drawn = FIGURES[figure].draw("d", groups).figure
    assert drawn.get_figwidth() * 25.4 == pytest.approx(pages * PAGE_MM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where panels lack room, matplotlib warns and leaves words over each other
        drawn.draw_without_rendering()


@settings(max_examples=50)
@given(wanted=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_stay_apart_and_near_their_curves(wanted: list[float]) -> None:
    places = spread(sorted(wanted), 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(places))
    assert max(abs(place - at) for place, at in zip(places, sorted(wanted), strict=True)) <= 0.05 * len(wanted)
    alone = [0.1 * i for i in range(len(wanted))]
    assert spread(alone, 0.05) == pytest.approx(alone), "none moves without need"


def test_rounding_is_drawn_as_no_loss() -> None:
    still = {("cnn", "scratch", 40): (0.2, 0.3, 0.0)}
    results = simulated((256,), (0,), still)
    for result in results:
        result.confusions.update(dict.fromkeys(result.confusions, result.confusions[CLEAN]))
    [axes] = figure5.draw("simulated", group_by_seed(results)).figure.axes
    assert np.ptp(axes.get_xlim()) >= figure5.FLAT


def test_a_long_name_leaves_room_for_the_figure() -> None:
    assert axis_label("stroma") == "stroma"
    lines = axis_label("intraepithelial CD103-positive CD8-positive T lymphocyte").split("\n")
    assert len(lines) == 2
    assert max(map(len, lines)) <= 26
    assert lines[1].endswith("…")


def test_characters_without_a_font_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure, [axes] = styled(new_figure)()
    axes.set_title("\ue000")  # of private use: no font has it
    save(Drawing("figure", figure, ""), tmp_path)
    assert "no font here has" in caplog.text


def test_calibration_and_specimens_have_intervals_over_seeds() -> None:
    assert mean_over_seeds([0.30, 0.32]) == pytest.approx(
        (0.31, 0.31 - 0.127062, 0.31 + 0.127062), abs=1e-4
    )  # t 12.7062
    assert mean_over_seeds([0.2, 0.4])[1:] == (0, 1), "no share is below 0 or above 1"
    mean, low, high = mean_over_seeds([0.2])
    assert mean == 0.2
    assert np.isnan([low, high]).all()


def test_one_tall_interval_squeezes_no_calibration_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = figure_calibration._errors
    whole = figure_calibration.draw("simulated", GROUPS)
    assert "are cut" not in whole.caption

    def one_tall(error: Callable[[Scores], float], group: SeedGroup) -> BlurCurve:
        curve = errors(error, group)
        if group.coordinates.model == "cnn":
            last = max(curve)
            curve[last] = (curve[last][0], 0.0, 1.0)
        return curve

    monkeypatch.setattr(figure_calibration, "_errors", one_tall)
    cut = figure_calibration.draw("simulated", GROUPS)
    assert "Intervals that leave a panel are cut." in cut.caption
    before, after = (
        [ax.get_ylim()[1] for ax in drawing.figure.axes if ax.get_title(loc="left") == "trained from scratch"]
        for drawing in (whole, cut)
    )
    lines = [np.asarray(line.get_ydata(), float) for ax in cut.figure.axes for line in ax.lines]
    marks = [np.nanmax(line) for line in lines if line.size > 1]
    assert after != before
    assert max(after) < 1.0
    assert max(after) <= 1.5 * max(marks)


def test_captions_of_calibration_name_the_prior() -> None:
    def caption(*names: str | None) -> str:
        runs = simulated(limits=(256,), seeds=(0,))[: len(names)]
        priors = [name and {"name": name, "presumed": [0.5, 0.5], "training": [0.5, 0.5]} for name in names]
        groups = group_by_seed([restated(run, prior=prior) for run, prior in zip(runs, priors, strict=True)])
        return prior_caption(by_label(groups, groups))

    one = " Class frequencies that probabilities presume (prior): "
    assert caption("training", "training") == one + "training."
    assert caption(None, None) == one + "not recorded."
    assert caption("training", None, "uniform", "training") == (
        " Class frequencies that probabilities presume (prior) differ, so calibration errors are not comparable between "
        "them: training: cnn; dinov2_s, linear_probe, 56 px. not recorded: customvit. "
        "uniform: dinov2_s, linear_probe, 224 px."
    )
    drawing = figure_calibration.draw("simulated", group_by_seed(RESULTS))
    assert one + "not recorded." in drawing.caption


@pytest.mark.long
def test_runs_of_different_training_code_are_named() -> None:
    groups = group_by_seed(RESULTS)
    assert mixed_code_caption(groups) == ""
    assert mixed_code_caption(group_by_seed([restated(run, training_code=None) for run in RESULTS])) == ""
    own = [
        restated(run, training_code={"number": 1, "fingerprint": run.coordinates.model, "shared": "same"})
        for run in RESULTS
    ]
    assert mixed_code_caption(group_by_seed(own)) == "", "each model has a file of its own"
    changed = {"number": 1, "fingerprint": "cnn", "shared": "other"}
    of_cnn = [restated(run, training_code=changed) if run.coordinates.model == "cnn" else run for run in own]
    assert mixed_code_caption(group_by_seed(of_cnn)) == " These runs are not all of one training code."
    other = {"number": 2, "fingerprint": "other"}
    mixed = [restated(run, training_code=other) if run.run == "cnn-scratch-512-40-s1" else run for run in RESULTS]
    words = " Runs of different training code: cnn at 512. These runs are not all of one training code."
    assert mixed_code_caption(group_by_seed(mixed)) == words
    for name in ("figure3", "figure_planner", "figure_cost"):
        assert words in FIGURES[name].draw("simulated", group_by_seed(mixed)).caption
    at_4096 = [restated(run, training_code=other) if run.run.endswith("4096-56-s0") else run for run in RESULTS]
    words = " Runs of different training code: dinov2_s, linear_probe, 56 px. These runs are not all of one training"
    for name in set(FIGURES) - {
        "figure_blurred_cell",
        "figure_cells",
        "figure_counts",
        "figure_faults",
        "figure_field",
        "figure_classes",
        "figure_input_side",
        "figure_confusion",
        "figure_customvit",
        "figure_training",
    }:
        caption = FIGURES[name].draw("simulated", group_by_seed(at_4096)).caption
        assert (
            words if name not in ("figure3", "figure_planner", "figure_cost") else words.replace("px.", "px at 4096.")
        ) in caption
    whole = [restated(run, training_code=None) if run.coordinates.model == "cnn" else run for run in RESULTS]
    assert not any(group.mixed_code for group in group_by_seed(whole)), "runs without a number are one kind"
    assert mixed_code_caption(group_by_seed(whole)) == " These runs are not all of one training code."
    assert FIGURES["figure_confusion"].draw("simulated", groups).caption.endswith("; 3 seeds.")


def test_the_drawing_of_customvit_has_the_shapes_of_the_network() -> None:
    """Of every shape: what is written below each convolution is what the built network gives."""
    for stem, token_px in (("single", 8), ("single", 5), ("staged", 8), ("staged", 4)):
        sizes = {"input_px": 40, "token_px": token_px, "stem_width": 16, "dim": 48, "depth": 2, "heads": 3}
        shape = figure_customvit.Shape(**sizes, stem=stem)
        network = CustomViT(**sizes, drop_path=0.0, mean=[0.5] * 3, std=[0.2] * 3, stem=stem).eval()
        given: list[tuple[nn.Conv2d, tuple[int, ...]]] = []

        def note(module: nn.Conv2d, _: object, y: torch.Tensor, given: list = given) -> None:
            given.append((module, tuple(y.shape)))

        for module in network.stem.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network(torch.zeros(1, 3, 40, 40))
        layers = figure_customvit.stem_layers(shape)
        drawn = [layer for layer in layers for _ in range(2 if layer.words.startswith("2 ") else 1)]
        assert [layer.output for layer in drawn] == [f"{h}x{w}x{channels}" for _, (_, channels, h, w) in given]
        strides = [int(s[1]) if (s := re.search(r"stride (\d)", layer.words)) else 1 for layer in layers]
        assert np.prod(strides) == np.prod([module.stride[0] for module, _ in given]) == token_px
        assert [layer.words.split("\n")[0].removeprefix("2 ") for layer in drawn] == [
            f"conv {module.kernel_size[0]}x{module.kernel_size[0]}" for module, _ in given
        ]


def test_a_drawing_needs_a_customvit_that_states_its_shape() -> None:
    others = [run for run in RESULTS if run.coordinates.model != "customvit"]
    with pytest.raises(ValueError, match="no run of CustomViT"):
        figure_customvit.draw("simulated", group_by_seed(others))
    for value in (None, "8", 0, 10**9):
        run = next(run for run in RESULTS if run.coordinates.model == "customvit")
        backbone = run.stored["config"]["model"]["backbone"] | {"token_px": value}
        with pytest.raises(ValueError, match="token_px must be whole numbers"):
            figure_customvit.draw("simulated", group_by_seed([with_config(run, "model", backbone=backbone)]))


def test_over_training_the_best_mean_is_marked() -> None:
    group = next(group for group in GROUPS if group.coordinates.model == "customvit")
    updates, scores = figure_training.over_training(group, "val_macro_f1", states_updates=True)
    assert updates[scores.argmax()] == 2400
    assert scores.max() == pytest.approx(np.mean([run.record.clean.macro_f1 for run in group.runs]))
    drawing = figure_training.draw("simulated", GROUPS)
    assert len(drawing.figure.axes) == 3, "one family, three measures"
    tips = vars(drawing.figure)["_tips"].values()
    assert all("best macro-F1 at update 2400 of 3000" in tip for tip in tips)
    before = [
        restated(run, history=[{k: v for k, v in row.items() if k != "update"} for row in run.stored["history"]])
        for run in RESULTS
        if "history" in run.stored
    ]
    tips = vars(figure_training.draw("simulated", group_by_seed(before)).figure)["_tips"].values()
    assert all("best macro-F1 at validation 8 of 10" in tip for tip in tips), "versions that did not count updates"
    with pytest.raises(ValueError, match="no record has a history"):
        figure_training.draw("simulated", group_by_seed([run for run in RESULTS if "history" not in run.stored]))


def test_bins_of_seeds_are_one_diagram() -> None:
    group = next(group for group in GROUPS if group.coordinates.model == "cnn")
    bins = figure_reliability.pooled(group, CLEAN)
    assert sum(each.n for each in bins) == 3 * 1835
    right = sum(run.record.clean.accuracy * 1835 for run in group.runs)
    assert sum(each.n * each.accuracy for each in bins) == pytest.approx(right)
    assert all(each.confidence == pytest.approx(each.accuracy + 0.05) for each in bins)
    bare = [
        restated(run, metrics=[{k: v for k, v in row.items() if k != "reliability"} for row in run.stored["metrics"]])
        for run in RESULTS
    ]
    with pytest.raises(ValueError, match="no record has bins of confidence"):
        figure_reliability.draw("simulated", group_by_seed(bare))


def test_f1_of_all_models_is_written_once_each() -> None:
    drawing = figure_class_f1.draw("simulated", GROUPS)
    [ax] = drawing.figure.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[-1] == "always stroma"
    assert len(ax.texts) == len(names) * len(CLASSES)
    table = np.asarray(ax.images[0].get_array())
    means = table[:-1].mean(axis=1)
    assert (np.diff(means) <= 0).all(), "by falling macro-F1"
    assert (table[-1] > 0).sum() == 1


def test_a_map_needs_a_card_that_has_one() -> None:
    bare = [restated(run, features={k: v for k, v in run.stored["features"].items() if k != "map"}) for run in RESULTS]
    with pytest.raises(ValueError, match="no card of features has a map"):
        figure_features.draw("simulated", group_by_seed(bare))
    uneven = RESULTS[0].stored["features"]["map"] | {"points": {"stroma": [[0.0]]}}
    with pytest.raises(ValueError, match="features.map.points.stroma"):
        restated(RESULTS[0], features=RESULTS[0].stored["features"] | {"map": uneven})
