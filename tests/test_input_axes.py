"""Fields of view and held-out sites as axes of a grid: in names, figures, tables and the page."""

from pathlib import Path

import field_table
import figure_field
import figure_input_side
import make_all
import models_table
import numpy as np
import pandas as pd
import pytest
import report
from conftest import square_crop
from PIL import Image
from simulated import at_field, restated, simulated

from cellpatch.analysis.groups import data_sets, group_by_seed
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.results import read_results
from cellpatch.config.schema import compose_config
from cellpatch.data.images.crops import LEAVES, TRANSPARENT
from cellpatch.figures.tables import format_ci
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.identity import run_name
from cellpatch.runs.table import table_of
from cellpatch.sweeps.train import train

SKILLS = {("cnn", "scratch", 40): (0.15, 0.45, 0.10), ("colour", "linear_probe", 40): (0.40, 0.10, 0.10)}
BETTER = {key: (floor - 0.1, gain, loss) for key, (floor, gain, loss) in SKILLS.items()}


RESULTS = [
    *at_field(simulated(limits=(256, 1024), skills=SKILLS), 10.0),
    *at_field(simulated(limits=(256, 1024), skills=BETTER), 20.0),
]


def test_fields_are_one_data_set_with_a_label_each() -> None:
    groups = group_by_seed(RESULTS)
    assert list(data_sets(groups)) == ["simulated"]
    at_256 = [group for group in groups if group.coordinates.flag_limit == 256]
    assert list(by_label(at_256, groups)) == [
        "cnn, 10 um",
        "colour, linear_probe, 10 um",
        "cnn, 20 um",
        "colour, linear_probe, 20 um",
    ]


def test_fields_of_other_cells_are_refused_with_what_to_do() -> None:
    fewer = simulated(limits=(256, 1024), skills=SKILLS, specimens=29)
    mixed = group_by_seed([*RESULTS, *at_field(fewer, 40.0)])
    with pytest.raises(ValueError, match=r"(?s)different test cells.*data\.field_um: .*data\.widest_field_um, set to"):
        data_sets(mixed)


def test_one_field_of_two_sets_of_crops_is_refused() -> None:
    """Equal names and counts do not make equal crops."""
    [first, *others] = at_field(simulated(limits=(256,), skills=SKILLS), 10.0)
    data = first.stored["data"] | {"fingerprint": "scanned again"}
    with pytest.raises(ValueError, match="no common mean"):
        group_by_seed([restated(first, data=data), *others])
    cnn = [restated(run, data=data) if run.coordinates.model == "cnn" else run for run in [first, *others]]
    with pytest.raises(ValueError, match="different test cells"):
        data_sets(group_by_seed(cnn))


def test_figure_of_fields(tmp_path: Path) -> None:
    groups = group_by_seed(RESULTS)
    drawing = figure_field.draw("simulated", groups)
    assert [ax.get_title("left") for ax in drawing.figure.axes] == ["cnn\nscratch", "colour\nlinear_probe"]
    assert [tick.get_text() for tick in drawing.figure.axes[0].get_xticklabels()] == ["10", "20"]
    assert drawing.figure.get_supxlabel() == "field of view, um"
    assert "the side of the field that a crop shows" in drawing.caption
    with pytest.raises(ValueError, match="no model was run at several input sides"):
        figure_input_side.draw("simulated", groups)
    with pytest.raises(ValueError, match=r"several fields: data\.field_um=10,20,40 data\.widest_field_um=40 adds them"):
        figure_field.draw("simulated", group_by_seed(RESULTS[: len(RESULTS) // 2]))


def test_table_of_fields_has_paired_changes() -> None:
    groups = group_by_seed(RESULTS)
    [table] = field_table.tables(groups)
    assert table.shown[["model", "flag_limit", "field_um"]].to_numpy().tolist() == [
        [model, limit, field]
        for model in ("cnn, scratch", "colour, linear_probe")
        for limit in (256, 1024)
        for field in ("10", "20")
    ]
    of_cnn = {(g.coordinates.field_um, g.coordinates.flag_limit): g for g in groups if g.coordinates.model == "cnn"}
    means = [of_cnn[field, 256].estimate(CLEAN, macro_f1).mean for field in (10.0, 20.0)]
    row = table.numbers.iloc[1]
    assert row["change"] == pytest.approx(means[1] - means[0])
    assert row["change_low"] < row["change"] < row["change_high"]
    assert row["change_low"] > 0  # a tenth of accuracy better on 1,800 cells
    assert np.isnan(table.numbers.iloc[0]["change"])


def test_tables_have_a_column_for_several_fields_alone() -> None:
    groups = group_by_seed(RESULTS)
    [table] = models_table.tables(groups)
    assert table.shown["field, um"].tolist().count("20") == 4
    assert table.shown["field, um"].tolist().count("-") == 2  # of the rule that names the largest class
    [alone] = models_table.tables(group_by_seed(RESULTS[: len(RESULTS) // 2]))
    assert "field, um" not in alone.shown
    assert set(table_of(RESULTS)["field_um"]) == {10.0, 20.0}
    assert "field_um" not in table_of(RESULTS[:3])


@pytest.mark.parametrize("kind", ["figures", "tables"])
def test_every_script_takes_several_fields(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = dict(make_all.make(data_sets(group_by_seed(RESULTS)), kind))
    failed = {name: error for name, error in made.items() if isinstance(error, Exception)}
    assert all(isinstance(error, ValueError) for error in failed.values()), failed


def _train(folder: Path, *overrides: str) -> None:
    """A probe of colours whose files are all in the folder."""
    places = [f"runs_dir={folder / 'runs'}", f"data.loading.store_dir={folder / 'stores'}", "logger=none"]
    places += [f"data.loading.embeddings_dir={folder / 'embeddings'}", "trainer.accelerator=cpu", "model=colour"]
    train(compose_config([*overrides, *places]))


def test_runs_at_two_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's name states a field that is not the study's; all fields have the cells that the widest one has.

    One cell of each tile is near the border. One of the first tile is near transparent pixels.
    """
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = []
    (tmp_path / "tiles").mkdir()
    for i in range(8):
        tile = rng.integers(60, 120, (200, 200, 4)).astype(np.uint8)
        tile[..., 3] = 255
        for channel, (x, y) in enumerate(((12, 12), (100, 140), (100, 60))):
            tile[y - 4 : y + 4, x - 4 : x + 4, channel % 2] = 250
            rows.append({"image": f"tile{i}.png", "x": x, "y": y, "class": ("red", "green", "red")[channel]})
        tile[172:, :, 3] = 0 if i == 0 else 255
        Image.fromarray(tile).save(tmp_path / "tiles" / f"tile{i}.png")
    pd.DataFrame(rows).to_csv(tmp_path / "tiles" / "points.csv", index=False)
    settings = ["data=points", f"data.root={tmp_path / 'tiles'}", "data.points=points.csv", "data.name=tiles"]
    settings += ["data.image_um_per_px=0.25", "data.margin_um=0", "flag_limit=4"]
    for field in (10, 20):
        _train(tmp_path, *settings, f"data.field_um={field}", "data.widest_field_um=20")
    results = read_results(tmp_path / "runs")
    names = sorted(run.run.rpartition("-")[0] for run in results)
    assert names == ["colour-linear_probe-tiles-20um-4-s0", "colour-linear_probe-tiles-4-s0"]
    for run in results:
        assert run.record.data.intake is not None
        assert run.record.data.intake.as_json()["left_out"] == {LEAVES: 8, TRANSPARENT: 1}
    [table] = field_table.tables(group_by_seed(results))
    assert table.shown["field_um"].tolist() == ["10", "20"]
    assert len(data_sets(group_by_seed(results))) == 1
    _train(tmp_path, *settings, "data.field_um=8")
    with pytest.raises(ValueError, match=r"data\.widest_field_um, set to the widest of the fields, keeps the same"):
        data_sets(group_by_seed(read_results(tmp_path / "runs")))
    with pytest.raises(ValueError, match=r"widest_field_um must be null, or .* at least data\.field_um=20.*but got 10"):
        _train(tmp_path, *settings, "data.field_um=20", "data.widest_field_um=10")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites, of which each is the test set in turn."""
    folder = tmp_path_factory.mktemp("sites")
    rng = np.random.default_rng(0)
    rows = []
    for channel, label in enumerate(("red", "green")):
        for i in range(24):
            file = folder / "cells" / f"{label}{i}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(square_crop(rng, channel)).save(file)
            site = ("north", "south", "far west")[i % 3]
            rows.append({"path": f"cells/{file.name}", "class": label, "specimen": f"s{i % 12}", "site": site})
    pd.DataFrame(rows).to_csv(folder / "cells.csv", index=False)
    settings = ["data=table", f"data.table={folder / 'cells.csv'}", "data.um_per_px=0.25", "data/split=by_site"]
    for sites in ("[north]", "[south]", "[far west,north]"):
        _train(folder, *settings, "data.name=hospitals", "flag_limit=4", f"data.split.test_sites={sites}")
    return folder


def test_each_choice_of_sites_is_a_data_set(sites: Path) -> None:
    results = read_results(sites / "runs")
    names = sorted(run.run.rpartition("-")[0] for run in results)
    assert names == [
        "colour-linear_probe-hospitals-site_far_west_north-4-s0",
        "colour-linear_probe-hospitals-site_north-4-s0",
        "colour-linear_probe-hospitals-site_south-4-s0",
    ]
    by_data = data_sets(group_by_seed(results))
    assert list(by_data) == ["hospitals, site north", "hospitals, site south", "hospitals, sites far west, north"]
    assert {run.record.settings.data.name for run in results} == {"hospitals"}
    assert [path.name.rpartition("-")[0] for path in finished_runs(sites / "runs")] == names
    assert [run_name(run.record.settings) for run in sorted(results, key=lambda run: run.run)] == names


def test_a_page_of_sites(sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = report.build(read_results(sites / "runs"))
    page = files[0].read_text()
    for heading in ("hospitals, site north", "hospitals, site south", "hospitals, sites far west, north"):
        assert heading in page
    assert (tmp_path / "report-hospitals_site_north.png").is_file()


def test_the_page_of_endonuke_has_the_packed_scores() -> None:
    root = Path(__file__).parents[1]
    [table] = field_table.tables(group_by_seed(read_results(root / "experiments" / "results" / "field.parquet")))
    lines = (root / "docs" / "endonuke.md").read_text().splitlines()
    for (model, limit), rows in table.numbers.groupby(["model", "flag_limit"], sort=False):
        first = f"| {model} |" if limit == 256 else "| |"
        last = rows.iloc[-1]
        change = format_ci(last["change"], last["change_low"], last["change_high"], sign="+")
        scores = " | ".join(f"{score:.3f}" for score in rows["macro_f1"])
        assert f"{first} {limit} | {scores} | {change} |" in lines
