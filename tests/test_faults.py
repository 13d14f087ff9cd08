"""Faults of the image other than blur: what they do to pixels, and the way from a command to a table."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import figure5
import figure_blur
import image_faults
import numpy as np
import pytest
import robustness_table
import torch
from conftest import ROOT, config_of, unaudited_split
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from recommend import recommend
from scipy.stats import kstest
from simulated import FAULTS as SIMULATED
from simulated import simulated
from stored import read_record, replace_record
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from cellpatch.analysis.blur import summarise_blur
from cellpatch.analysis.groups import group_by_seed, under_blur, under_faults
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.packed_results import pack
from cellpatch.analysis.results import read_results
from cellpatch.analysis.robustness import change_under, summarise_faults
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import CellDataset
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.tables import format_ci
from cellpatch.inference.restore import restore
from cellpatch.metrics.degradation import slope_per_unit
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, FAULTS, Condition, OpticsSettings, faults_among
from cellpatch.optics.faults import acts_on_pixels, apply_fault
from cellpatch.optics.operator import OpticalPath, reaches_beyond_margin, to_pixels
from cellpatch.optics.pixel_random import cell_seeds, normal, uniform
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.fit import CachedFeatures
from cellpatch.runs.differences import differences
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.verify import verify
from cellpatch.sweeps.train import train

LEVELS: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "optics" / "faults.yaml").faults)
CONDITIONS = [Condition(kind, float(strength)) for kind, strengths in LEVELS.items() for strength in strengths]
PATH = OpticalPath(40, 12, 40)
SMALL_CNN = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "trainer.max_epochs=1"]
FolderMaker = Callable[..., Path]


def _crops(n: int = 6, side: int = 64) -> Tensor:
    """Random crops of bytes with structure of several pixels, light as tissue is."""
    noise = torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(noise, (side, side), mode="bicubic").clamp(0, 1)
    return (60 + 180 * smooth).round().byte().permute(0, 2, 3, 1).contiguous()


def _pixels(n: int = 6, side: int = 64) -> Tensor:
    return to_pixels(_crops(n, side))


def _under(kind: str, strength: float, x: Tensor, path: OpticalPath = PATH) -> Tensor:
    return path.under(Condition(kind, strength))(x)


# What each does


@pytest.mark.parametrize("strength", [30.0, 75.0, 99.0])
def test_jpeg_is_pillows(strength: float) -> None:
    crops = _crops()
    got = apply_fault(to_pixels(crops), Condition("jpeg", strength), 40)
    for crop, seen in zip(crops.numpy(), got, strict=True):
        file = BytesIO()
        Image.fromarray(crop).save(file, "JPEG", quality=int(100 - strength), subsampling=2)
        np.testing.assert_array_equal(
            (seen.permute(1, 2, 0) * 255).round().byte().numpy(), np.asarray(Image.open(file))
        )


@pytest.mark.parametrize(("kind", "gain"), [("pale_stain", 0.8), ("strong_stain", 1.2)])
def test_stain_multiplies_optical_density(kind: str, gain: float) -> None:
    x = _pixels()
    seen = apply_fault(x, Condition(kind, 20.0), 40)
    expected = 10 ** -(gain * -x.log10())
    torch.testing.assert_close(seen, expected, atol=0.51 / 255, rtol=0)


def test_intensity_is_multiplied_and_clipped() -> None:
    x = _pixels()
    torch.testing.assert_close(apply_fault(x, Condition("darker", 25.0), 40), 0.75 * x, atol=0.51 / 255, rtol=0)
    brighter = (1.25 * x).clamp(max=1)
    torch.testing.assert_close(apply_fault(x, Condition("brighter", 25.0), 40), brighter, atol=0.51 / 255, rtol=0)
    assert (brighter == 1).any()


def test_hue_turns_about_grey() -> None:
    x = _pixels()
    grey = x[:, :1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(apply_fault(grey, Condition("hue", 70.0), 40), grey, atol=0.51 / 255, rtol=0)
    thirds = apply_fault(x, Condition("hue", 120.0), 40)
    torch.testing.assert_close(thirds, x.roll(1, dims=1), atol=0.51 / 255, rtol=0, msg="red to green to blue to red")
    density = [-each.log10().sum(dim=1) for each in (x, apply_fault(x, Condition("hue", 10.0), 40))]
    torch.testing.assert_close(density[1], density[0], atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("strength", "red"), [(2.0, {33: 1.0}), (1.0, {32: 0.5, 33: 0.5}), (0.5, {32: 0.75, 33: 0.25})]
)
def test_chromatic_moves_red_and_blue_apart(strength: float, red: dict[int, float]) -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[..., 20, 32] = 1
    seen = apply_fault(x, Condition("chromatic", strength), 40)[0]
    expected = torch.zeros(3, 64)
    expected[1, 32] = 1
    for column, share in red.items():
        expected[0, column], expected[2, 64 - column] = share, share
    torch.testing.assert_close(seen[:, 20], expected, atol=0.51 / 255, rtol=0)
    assert not seen[:, [19, 21]].any()


def test_chromatic_is_in_pixels_of_40() -> None:
    x = torch.zeros(1, 3, 96, 96)
    x[..., 20, 48] = 1
    assert apply_fault(x, Condition("chromatic", 2.0), 80)[0, :, 20].argmax(dim=1).tolist() == [50, 48, 46]


def test_noise_is_gaussian_and_independent() -> None:
    grey = (torch.arange(40, dtype=torch.float32) + 100)[:, None, None, None].expand(40, 3, 64, 64) / 255
    noise = 255 * (apply_fault(grey, Condition("noise", 10.0), 40) - grey)
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.std()) == pytest.approx((10**2 + 1 / 12) ** 0.5, rel=0.01)
    flat = noise.flatten(1).double()
    for lag in (1, 64, 64 * 64):
        assert abs(float((flat[:, lag:] * flat[:, :-lag]).mean())) < 1, (
            "neighbours, rows, channels; of a variance of 100"
        )
    between = torch.corrcoef(flat).fill_diagonal_(0)
    assert float(between.abs().max()) < 0.05


def test_random_numbers_are_evenly_and_normally_distributed() -> None:
    seeds = cell_seeds(_pixels(4))
    assert len(set(seeds.tolist())) == 4
    assert kstest(uniform(seeds, 20000, 1).flatten().numpy(), "uniform").pvalue > 1e-3
    assert kstest(normal(seeds, 20000).flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(uniform(seeds, 5000, 1).flatten(), uniform(seeds, 5000, 2).flatten())[0, 1]) < 0.03


@pytest.mark.parametrize("kind", ["bubble", "dust"])
@pytest.mark.parametrize("percent", [2.0, 20.0, 75.0])
def test_a_disc_covers_its_share_of_the_crop(kind: str, percent: float) -> None:
    x = torch.linspace(0.5, 0.9, 30)[:, None, None, None].expand(30, 3, 64, 64).mul(255).round() / 255
    changed = (apply_fault(x, Condition(kind, percent), 40) != x).any(dim=1)
    area = changed.flatten(1).sum(dim=1) / 40**2
    assert torch.allclose(area, torch.tensor(percent / 100), atol=0.08)
    assert not changed[:, :11].any()
    assert not changed[:, :, 53:].any(), "no more than the crop and a soft edge"
    assert len({tuple(each.nonzero()[0].tolist()) for each in changed}) > (1 if percent > 70 else 10), "each elsewhere"


WINDOWS = [("larger", 9.0), ("larger", 56.0), ("smaller", 8.0), ("smaller", 36.0)]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize(("kind", "percent"), WINDOWS)
@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize("crop_px", [20, 40, 70])
def test_size_is_pillows_resize_of_a_box(kind: str, percent: float, resize: Any, crop_px: int) -> None:
    path = OpticalPath(crop_px, crop_px, 40, resize=resize)
    x = _pixels(1, path.side_px)
    seen = _under(kind, percent, x, path)[0]
    side = crop_px / Condition(kind, percent).magnification
    box = ((path.side_px - side) / 2,) * 2 + ((path.side_px + side) / 2,) * 2
    for channel, got in zip(x[0].numpy(), seen, strict=True):
        expected = np.asarray(Image.fromarray(channel).resize((40, 40), FILTERS[resize], box=box))
        np.testing.assert_allclose(got, expected.clip(0, 1), atol=2e-5)


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "area"])
def test_a_window_of_whole_pixels_is_a_crop_of_another_size(resize: Any) -> None:
    path, x = OpticalPath(40, 12, 40, resize=resize), _pixels()
    other = OpticalPath(32, 16, 40, resize=resize).under()(x)
    if resize == "area":  # torch's takes whole pixels: compare means of four
        path, other = replace(path, input_px=16), avg_pool2d(x[..., 16:48, 16:48], 2)
    torch.testing.assert_close(_under("larger", 25.0, x, path), other, atol=1e-5, rtol=0)


def test_a_window_beyond_the_margin_is_mirrored_and_reported() -> None:
    path, x = OpticalPath(40, 4, 40), _pixels(2, 48)
    wide = pad(x, (16, 16, 16, 16), mode="reflect")
    torch.testing.assert_close(
        _under("smaller", 50.0, x, path), _under("smaller", 50.0, wide, OpticalPath(40, 20, 40)), atol=1e-5, rtol=0
    )
    asked = [Condition("smaller", 10.0), Condition("smaller", 50.0), Condition("chromatic", 9.0)]
    assert [reaches_beyond_margin(each, path) for each in asked] == [False, True, True]
    assert reaches_beyond_margin(Condition("smaller", 10.0), path, mirrored_px=3)
    assert not any(reaches_beyond_margin(Condition(kind, 20.0), OpticalPath(40, 0, 40)) for kind in ("jpeg", "larger"))


# All of them


def test_files_list_every_fault() -> None:
    stated: Any = OmegaConf.load(ROOT / "conf" / "optics" / "clean.yaml").faults
    assert list(LEVELS) == list(stated) == list(FAULTS)
    assert all(strengths == sorted(strengths) and strengths[0] > 0 for strengths in LEVELS.values())
    assert all(not strengths for strengths in stated.values())


@pytest.mark.parametrize("kind", FAULTS)
def test_strength_zero_is_clean(kind: str) -> None:
    x = _pixels()
    assert torch.equal(_under(kind, 0.0, x), PATH.under()(x))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_stronger_fault_changes_more(kind: str) -> None:
    x = _pixels()
    clean = PATH.under()(x)
    apart = [float((_under(kind, strength, x) - clean).square().mean()) for strength in LEVELS[kind]]
    assert 0 < apart[0] < apart[1] < apart[2]


@pytest.mark.parametrize("kind", FAULTS)
def test_the_strongest_is_finite_and_in_range(kind: str) -> None:
    for x in (_pixels(), torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)):
        seen = _under(kind, FAULTS[kind].most, x)
        assert seen.isfinite().all()
        assert (seen.min() >= 0) & (seen.max() <= 1 + 1e-6)


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_batch_order_and_trimming_change_nothing(condition: Condition) -> None:
    optics, crops = PATH.under(condition), _crops(9)
    whole = optics(to_pixels(crops))
    assert torch.equal(whole, optics(to_pixels(optics.trim(crops))))
    single = torch.cat([optics(to_pixels(crop[None])) for crop in crops.flip(0)]).flip(0)
    torch.testing.assert_close(single, whole, atol=1e-6, rtol=0)
    if acts_on_pixels(condition):
        stored = apply_fault(to_pixels(crops), condition, 40) * 255
        torch.testing.assert_close(stored, stored.round(), atol=1e-4, rtol=0, msg="a camera stores bytes")


def test_blur_does_not_know_of_faults() -> None:
    assert PATH.under().fault is None
    assert PATH.under(Condition("pre", 1.6)).fault is None


# Settings


def _settings(**changes: Any) -> OpticsSettings:
    plain = {"kind": "pre", "sigma": 0.0, "faults": {}, "unit": "px40", "via_px": 40, "resize": "bilinear"}
    return OpticsSettings(**plain | {"train": None, "train_kind": ["pre"]} | changes)


def test_conditions_are_blur_then_faults_each_once() -> None:
    asked = _settings(sigma=[1.6, 0.4], faults={"dust": [4, 1, 4.0], "jpeg": 30, "noise": []})
    assert list(map(str, asked.evaluated(None))) == ["clean", "pre 0.4", "pre 1.6", "jpeg 30", "dust 1", "dust 4"]
    assert Condition("jpeg", 30.0).words == "jpeg 30 (100 - quality)"
    assert _settings(unit="um", faults={"noise": 5.0}).evaluated(20.0)[1] == Condition("noise", 5.0), (
        "a unit of its own"
    )


@settings(max_examples=100)
@given(kind=st.sampled_from([*FAULTS]), strength=st.floats(allow_nan=True, allow_infinity=True))
def test_strengths_out_of_range_are_refused(kind: str, strength: float) -> None:
    if 0 <= strength <= FAULTS[kind].most:
        assert len(_settings(faults={kind: strength}).evaluated(None)) == 1 + (strength > 0)
        return
    with pytest.raises(ValueError, match=f"optics.faults.{kind} must be 0 to .*, but got"):
        _settings(faults={kind: [0.5, strength]})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optics.faults.jpg=30", r"unknown key optics.faults.jpg; did you mean optics.faults.jpeg\?"),
        ("+optics.faults.fog=1", "optics.faults must be of jpeg, .*, dust, but got fog"),
        ("optics.faults.jpeg=100", r"optics.faults.jpeg must be 0 to 99 \(100 - quality\), but got 100"),
        ("optics.faults.noise=loud", "optics.faults.noise must be a number or a list of numbers, but got 'loud'"),
        ("optics.faults.noise=[true]", "optics.faults.noise must be a number or a list of numbers"),
        ("optics.faults.hue=null", "optics.faults.hue must be a number or a list of numbers, but got None"),
        ("optics.faults=3", "optics.faults must be"),
        ("optics.train_kind=[jpeg]", "optics.train_kind must be"),
        ("optics.kind=jpeg", "optics.kind must be of none, pre, post, defocus, motion, but got jpeg"),
    ],
)
def test_what_users_mistype(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assemble(compose_config(["model=cnn", override]))


def test_the_experiment_has_blur_and_every_fault() -> None:
    conditions = assemble(compose_config(["experiment=robustness", "model=cnn"])).optics.evaluated(None)
    assert conditions[9:] == CONDITIONS
    assert {each.kind for each in conditions[1:9]} == {"pre", "post"}


# Runs

ASKED = ["optics.faults.jpeg=[30,90]", "optics.faults.smaller=20", "optics.faults.noise=20"]
STORED = [CLEAN, Condition("jpeg", 30.0), Condition("jpeg", 90.0), Condition("noise", 20.0), Condition("smaller", 20.0)]


@pytest.fixture
def finished(tmp_path: Path, folder_of_squares: FolderMaker) -> tuple[Path, Path]:
    root = folder_of_squares(12, 4)
    return tmp_path / "runs" / train(config_of(tmp_path, root, *SMALL_CNN)).run, root


def test_a_finished_run_is_completed_and_read_back(
    finished: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run, root = finished
    before = read_record(run)["metrics"]
    outcome = train(config_of(tmp_path, root, *SMALL_CNN, *ASKED))
    assert (outcome.run, outcome.state) == (run.name, "evaluated"), "the same identity"
    assert "less than the reach of smaller 20: missing pixels" in caplog.text
    assert "noise 20 (grey levels of 255): accuracy" in capsys.readouterr().out
    stored = StoredRun.open(run)
    assert [row.condition for row in stored.record.metrics] == STORED
    assert list(stored.predictions) == STORED
    assert read_record(run)["metrics"][: len(before)] == before
    assert read_record(run)["metrics"][-1]["mirrored_cells"] == 0
    assert not list(verify(tmp_path / "runs"))
    assert train(config_of(tmp_path, root, *SMALL_CNN, *ASKED)).state == "exists"
    new = train(config_of(tmp_path / "anew", root, *SMALL_CNN, *ASKED, "optics.sigma=0.4"))
    at_once = StoredRun.open(tmp_path / "anew" / "runs" / new.run)
    for condition in STORED:
        np.testing.assert_allclose(
            at_once.predictions[condition].probabilities, stored.predictions[condition].probabilities, atol=1e-5
        )
    [result] = read_results(tmp_path / "runs")
    pack([result], tmp_path / "packed.parquet")
    [unpacked] = read_results(tmp_path / "packed.parquet")
    assert list(unpacked.confusions) == list(result.confusions) == STORED
    for condition in STORED:
        np.testing.assert_array_equal(unpacked.confusions[condition], result.confusions[condition])


@pytest.mark.parametrize(("kind", "sigma"), [("jpeg", 99.5), ("smaller", 60.0), ("fog", 1.0), ("noise", -1.0)])
def test_a_record_with_another_fault_is_refused(finished: tuple[Path, Path], kind: str, sigma: float) -> None:
    run, _ = finished
    record = read_record(run)
    record["metrics"].append({**record["metrics"][0], "kind": kind, "sigma": sigma})
    replace_record(run, record)
    with pytest.raises(ValueError, match="metrics must be of none, .*, dust and sigma 0 to"):
        StoredRun.open(run)


def test_a_run_of_before_faults_still_opens(finished: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = finished
    record = read_record(run)
    today = StoredRun.open(run).record
    del record["config"]["optics"]["faults"]
    replace_record(run, record)
    assert not differences(StoredRun.open(run).record, today), "no fault is what it had"
    assert train(config_of(tmp_path, root, *SMALL_CNN, "optics.faults.dust=4")).state == "evaluated"
    assert restore(run).stored.record.metrics[1].condition == Condition("dust", 4.0)


def test_features_of_each_condition_are_cached_under_keys_of_their_own(
    store_of: Callable[..., Path], tmp_path: Path
) -> None:
    store = CellStore(store_of(n=10, side=16))
    cells, path = np.arange(4), OpticalPath(16, 0, 16)
    dataset = CellDataset(store, ["a", "b"], np.arange(10) % 2, unaudited_split(cells, cells, cells))
    cache = FeatureCache(tmp_path / "embeddings", 1.0, 3, torch.device("cpu"))
    model = assemble(compose_config(SMALL_CNN)).model
    features = CachedFeatures(model, None, dataset, path, cache, "cells")
    conditions = [CLEAN, Condition("pre", 1.0), *(Condition(kind, 10.0) for kind in FAULTS)]
    found = {condition: features(condition, cells) for condition in conditions}
    network = features._network.under(CLEAN).eval()
    pixels = to_pixels(torch.from_numpy(store.crops(cells)))
    for condition, each in found.items():
        with torch.inference_mode():
            expected = network.features(pixels, path.under(condition)).numpy()
        np.testing.assert_allclose(each, expected, atol=1e-5, err_msg=str(condition))
    keys = [json.loads(file.read_text())["content"] for file in (tmp_path / "embeddings").glob("*/key.json")]
    assert len(keys) == len(conditions)
    [clean] = [key for key in keys if key["condition"] == {"kind": "none", "sigma": 0.0}]
    [pre] = [key for key in keys if key["condition"] == {"kind": "pre", "sigma": 1.0}]
    stated = {"backbone", "weights", "via_px", "resize", "condition", "blur", "crops", "dtype", "feature_code", "timm"}
    assert set(clean) == set(pre) == stated, "entries of before there were faults stay"
    assert (clean["blur"], pre["blur"]) == (
        {"applied": "nowhere", "radius_sigmas": 0},
        {"applied": "native", "radius_sigmas": 4},
    )


# Analysis

RESULTS = simulated(limits=(256,))
GROUPS = group_by_seed(RESULTS)
SHARP = group_by_seed(simulated(limits=(256,), faults=()))


def test_a_change_is_paired_with_clean_cells() -> None:
    group = GROUPS[0]
    jpeg = Condition("jpeg", 90.0)
    under, clean = group.estimate(jpeg, macro_f1), group.estimate(CLEAN, macro_f1)
    got = change_under(group, jpeg)
    np.testing.assert_allclose(got.values, under.values - clean.values)
    np.testing.assert_allclose(got.draws, under.draws - clean.draws)
    low, high = got.interval()
    assert low < got.mean < high < 0


def test_slopes_are_least_squares_per_unit() -> None:
    scores = np.random.default_rng(0).random((5, 4))
    strengths = [0.0, 30.0, 75.0, 90.0]
    np.testing.assert_allclose(slope_per_unit(strengths, scores), np.polyfit(strengths, scores.T, 1)[0])
    with pytest.raises(ValueError, match=r"two sigmas at least, but got \[0.0\]"):
        slope_per_unit([0.0], scores[:, :1])


def test_figures_and_tables_of_blur_are_as_without_faults() -> None:
    for figure in (figure5, figure_blur):
        assert figure.draw("simulated", GROUPS).caption == figure.draw("simulated", SHARP).caption
    assert summarise_blur(GROUPS).equals(summarise_blur(SHARP))
    part = [run for run in RESULTS if run.coordinates.seed]
    part += [
        replace(run, confusions={at: n for at, n in run.confusions.items() if not at.is_fault}) for run in RESULTS[::3]
    ]
    mixed = group_by_seed(part)
    assert [len(group.runs) for group in under_blur(mixed)] == [3] * len(GROUPS), "all have the same blur"
    assert [len(group.runs) for group in under_faults(mixed)] == [2] * len(GROUPS)


def test_the_report_answers_for_faults_where_there_are_any() -> None:
    [sentence] = image_faults.faults(GROUPS)
    assert "at flag_limit 256, customvit has the highest" in sentence or "dinov2_s" in sentence
    assert re.search(r"changes by -0\.\d+ \(.*\) under .* at worst, and by -0\.\d+ \(.*\) under .* at best\.", sentence)
    assert image_faults.faults(SHARP) == []
    questions = [[answer.question for answer in recommend(groups).answers] for groups in (GROUPS, SHARP)]
    assert set(questions[0]) - set(questions[1]) == {"What if images have other faults?"}


def test_the_table_is_of_each_fault_and_model() -> None:
    summary = summarise_faults(under_faults(GROUPS))
    assert len(summary) == len(GROUPS) * len(SIMULATED)
    row = summary.query("model == 'cnn' and fault == 'jpeg' and strength == 90").iloc[0]
    [group] = [group for group in GROUPS if group.coordinates.model == "cnn"]
    assert row["macro_f1"] == pytest.approx(group.estimate(Condition("jpeg", 90.0), macro_f1).mean)
    assert row["change"] == pytest.approx(row["macro_f1"] - group.estimate(CLEAN, macro_f1).mean)
    scores = [group.estimate(each, macro_f1).mean for each in (CLEAN, *SIMULATED[:2])]
    assert row["slope"] == pytest.approx(np.polyfit([0, 30, 90], scores, 1)[0])
    long, wide = robustness_table.tables(GROUPS)
    assert set(long.shown["unit"]) == {"100 - quality", "% of the size"}
    assert list(wide.shown["fault"]) == [condition.words for condition in faults_among(SIMULATED)]
    assert len(wide.shown.columns) == 1 + len(GROUPS)
    with pytest.raises(ValueError, match="no run was evaluated under faults other than blur: optics=faults"):
        robustness_table.tables(SHARP)


def test_the_page_of_endonuke_has_the_packed_changes() -> None:
    groups = group_by_seed(read_results(ROOT / "experiments" / "results" / "robustness.parquet"))
    chosen = by_label(groups, groups)
    probes = ["dinov2_s, linear_probe", "efficientnet_lite0, linear_probe"]
    assert list(chosen) == ["cnn", "customvit", *probes, "resnet"]
    lines = (ROOT / "docs" / "endonuke.md").read_text().splitlines()
    clean = " | ".join(format_ci(*group.estimate(CLEAN, macro_f1).summary()) for group in chosen.values())
    assert f"| none: macro-F1 | {clean} |" in lines
    common = chosen["dinov2_s, linear_probe"].fault_conditions()
    assert len(common) == len(FAULTS) == 12
    for condition in common:
        changes = [format_ci(*change_under(group, condition).summary(), sign="+") for group in chosen.values()]
        assert f"| {condition.words} | {' | '.join(changes)} |" in lines
