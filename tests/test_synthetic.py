"""The synthetic cells: counts add up, physics is right, bytes repeat, crops stay inside the field."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from cellpatch.data.store.reader import CellStore
from cellpatch.data.synthetic import CLASSES, CropSize, plan_counts, render, render_specimen
from cellpatch.data.synthetic.camera import jpeg
from cellpatch.data.synthetic.cell_counts import MAX_CELLS, MAX_SPECIMENS, SHARES
from cellpatch.data.synthetic.cells import PAINTERS
from cellpatch.data.synthetic.frame import SpecimenStyle, draw_bank, draw_traits, open_frame
from cellpatch.data.synthetic.hospitals import HOSPITALS
from cellpatch.data.synthetic.source import GEOMETRY, Synthetic
from cellpatch.data.synthetic.stains import VECTORS, Staining, draw_staining, optical_density, transmit, unmix

ONE_OF_EACH = np.ones(len(CLASSES), np.int64)
PLAIN = Staining(VECTORS, np.ones(4, np.float32), np.zeros(4, np.float32))


@settings(max_examples=60)
@given(st.integers(3, MAX_SPECIMENS), st.integers(0, 400), st.integers(0, 9))
def test_counts_sum_exactly_and_reach_every_part(specimens: int, above: int, seed: int) -> None:
    cells = max(48, specimens) + above * above
    counts = plan_counts(cells, specimens, seed)
    assert counts.shape == (specimens, 16)
    assert counts.sum() == cells
    assert counts.min() >= 0
    assert counts.sum(1).min() >= 1
    assert counts.sum(0).min() >= max(3, min(cells // 150, 40))
    assert ((counts > 0).sum(0) >= 3).all()


def test_counts_are_long_tailed_at_full_size() -> None:
    totals = np.sort(plan_counts(MAX_CELLS, MAX_SPECIMENS, 0).sum(0))
    assert totals[-1] > 30_000
    assert (totals < 2_000).sum() >= 4
    assert 300 < totals[0] < 500


def test_counts_of_a_small_set_let_a_split_by_specimen_hold_every_class() -> None:
    counts = plan_counts(2_000, 12, 0)
    assert ((counts > 0).sum(0) >= 6).all()
    assert counts.sum(0).min() >= 12


def test_specimens_differ_in_size_and_composition() -> None:
    counts = plan_counts(60_000, 100, 0)
    sizes = counts.sum(1)
    assert np.quantile(sizes, 0.9) > 2 * np.quantile(sizes, 0.1)
    share = counts[:, CLASSES.index("lymphocyte")] / sizes
    assert np.quantile(share, 0.9) > 2 * np.quantile(share, 0.1)


def test_classes_are_sixteen_names_with_a_painter_each() -> None:
    assert tuple(SHARES) == CLASSES
    assert len(set(CLASSES)) == 16
    assert [painter.__name__ for painter, _, _ in PAINTERS] == list(CLASSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((47, 3, 0), "`cells` to be in 48..185432 .*got 47"),
        ((MAX_CELLS + 1, 100, 0), "`cells` to be in 100..185432 .*got 185433"),
        ((60, 61, 0), "`cells` to be in 61.*got 60"),
        ((2_000, 2, 0), "`specimens` to be in 3..303, but got 2"),
        ((2_000, 304, 0), "`specimens` to be in 3..303, but got 304"),
        ((2_000, 12, -1), "`seed` to be >= 0, but got -1"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_counts(*arguments)


def test_what_cannot_be_rendered_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="`workers` to be >= 0, but got -1"):
        render(48, 3, 0, workers=-1)
    with pytest.raises(ValueError, match="`counts`"):
        render_specimen(np.zeros(16, np.int64), 0, 0)
    with pytest.raises(ValueError, match=r"`um_per_px` to be in 0.2..1.0, but got 0.1"):
        render(48, 3, 0, size=CropSize(um_per_px=0.1))
    with pytest.raises(ValueError, match="`index` to be >= 0, but got 0 and -1"):
        render_specimen(ONE_OF_EACH, 0, -1)
    with pytest.raises(ValueError, match="`crop_px` >= 1"):
        render_specimen(ONE_OF_EACH, 0, 0, CropSize(crop_px=0))


@pytest.mark.parametrize("stain", range(4))
def test_light_follows_beer_lambert(stain: int) -> None:
    concentration = np.zeros((4, 1, 2), np.float32)
    concentration[stain, 0, 1] = 1.5
    for channel in range(3):
        light = transmit(concentration, PLAIN, channel)
        assert light[0, 0] == 1
        assert light[0, 1] == pytest.approx(10 ** (-1.5 * VECTORS[stain, channel]), rel=1e-5)


def test_densities_add_and_unmix_gives_them_back() -> None:
    amounts = np.array([0.4, 0.3, 0.2, 0.0], np.float32)
    light = np.stack([transmit(amounts[:, None, None], PLAIN, c) for c in range(3)], -1)
    assert -np.log10(light[0, 0]) == pytest.approx(amounts @ VECTORS, rel=1e-5)
    pixels = np.rint(light * 255).astype(np.uint8)
    assert unmix(pixels)[0, 0] == pytest.approx(amounts[:3], abs=0.03)


def test_a_white_pixel_has_no_density_and_black_is_finite() -> None:
    assert optical_density(np.array([255, 0], np.uint8)) == pytest.approx([0, np.log10(255)])


def test_stain_vectors_have_the_angles_of_the_study_notes() -> None:
    h, red, green, _ = VECTORS.astype(float)
    degrees = [np.degrees(np.arccos(a @ b)) for a, b in ((h, green), (h, red), (red, green))]
    assert degrees[0] == pytest.approx(18, abs=2)
    assert 25 < degrees[1] < 40  # 38 is for New Fuchsin; Fast Red lies nearer
    assert 38 < degrees[2] < 52


def test_specimens_stain_differently_but_never_negatively() -> None:
    drawn = [draw_staining(np.random.default_rng(i)) for i in range(50)]
    assert all((s.vectors >= 0).all() and (s.gain > 0).all() and (s.offset >= 0).all() for s in drawn)
    assert np.allclose([np.linalg.norm(s.vectors, axis=1) for s in drawn], 1, atol=1e-5)
    assert np.std([s.gain[0] for s in drawn]) > 0.03


@pytest.mark.parametrize("label", range(16), ids=CLASSES)
def test_painters_draw_finite_densities_inside_their_window(label: int) -> None:
    rng = np.random.default_rng(label)
    bank, traits = draw_bank(rng, 0.25), draw_traits(rng)
    style = SpecimenStyle(traits, bank, 0.25)
    painter, half_um, warp_um = PAINTERS[label]
    for angle in np.linspace(0, 6, 12):
        frame = open_frame(round(half_um / 0.25), float(angle), warp_um, style, rng)
        planes, cover = painter(frame)
        assert planes.shape == (4, *frame.u.shape)
        assert planes.dtype == cover.dtype == np.float32
        assert np.isfinite(planes).all()
        assert planes.min() >= 0
        assert cover.min() >= 0
        assert cover.max() <= 1
        edge = np.concatenate([planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1]], axis=1)
        assert np.quantile(edge, 0.95) < 0.15  # a cut-off body would show as a straight line


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_bytes_do_not_depend_on_workers(workers: int) -> None:
    one = list(render(120, 4, 5, workers=1))
    other = list(render(120, 4, 5, workers=workers))
    assert [item[0] for item in other] == [0, 1, 2, 3]
    for a, b in zip(one, other, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))


def test_a_specimen_depends_on_its_seed_and_index() -> None:
    crops = [render_specimen(ONE_OF_EACH, seed, index)[0] for seed, index in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert np.array_equal(crops[0], crops[3])
    assert not np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])


def test_crops_are_whole_images_of_the_counts_asked_for() -> None:
    counts = plan_counts(900, 3, 1)[0]
    crops, labels, x, y = render_specimen(counts, 1, 0)
    assert crops.shape == (counts.sum(), 66, 66, 3)
    assert crops.dtype == np.uint8
    assert labels.dtype == x.dtype == y.dtype == np.int64
    assert np.array_equal(np.bincount(labels, minlength=16), counts)
    assert min(x.min(), y.min()) >= 33
    means, spreads = crops.mean((1, 2, 3)), crops.std((1, 2)).max(1)
    assert means.min() > 40
    assert spreads.min() > 0.5
    assert len({crop.tobytes() for crop in crops}) == len(crops)
    assert (np.diff(labels) != 0).any()  # in random order


def test_overlapping_crops_agree_about_the_field() -> None:
    crops, _, x, y = render_specimen(plan_counts(900, 3, 1)[0], 1, 0)
    gaps = np.abs(x[:, None] - x) + np.abs(y[:, None] - y) + 999 * np.eye(len(x), dtype=int)
    i, j = np.unravel_index(gaps.argmin(), gaps.shape)
    dx, dy = int(x[j] - x[i]), int(y[j] - y[i])
    here = crops[i][max(dy, 0) : 66 + min(dy, 0), max(dx, 0) : 66 + min(dx, 0)]
    there = crops[j][max(-dy, 0) : 66 + min(-dy, 0), max(-dx, 0) : 66 + min(-dx, 0)]
    assert np.array_equal(here, there)


@pytest.mark.parametrize("label", range(16), ids=CLASSES)
def test_a_specimen_of_one_class_alone_finds_room(label: int) -> None:
    counts = np.zeros(16, np.int64)
    counts[label] = 40
    _, labels, _, _ = render_specimen(counts, 0, label, CropSize(crop_px=20, margin_px=0))
    assert (labels == label).all()
    assert len(labels) == 40


@pytest.mark.parametrize(
    ("crop_px", "margin_px", "um_per_px"),
    [(1, 0, 0.25), (41, 3, 0.5), (40, 13, 0.5), (64, 0, 0.2), (16, 4, 1.0)],
)
def test_other_sides_and_resolutions_render(crop_px: int, margin_px: int, um_per_px: float) -> None:
    crops, _, _, _ = render_specimen(ONE_OF_EACH, 0, 0, CropSize(crop_px, margin_px, um_per_px))
    assert crops.shape == (16, crop_px + 2 * margin_px, crop_px + 2 * margin_px, 3)


@pytest.mark.long
def test_a_large_specimen_becomes_several_fields() -> None:
    counts = np.full(16, 70, np.int64)
    _, labels, x, y = render_specimen(counts, 0, 0)
    assert np.array_equal(np.bincount(labels), counts)
    assert x.max() > 1.5 * y.max()


def test_rings_carry_their_colour() -> None:
    """Averaged over specimens, red and green membranes differ in the unmixed red and green as they must."""
    red, green, both, none = map(CLASSES.index, ("red_membrane", "green_membrane", "double_membrane", "lymphocyte"))
    counts = np.zeros(16, np.int64)
    counts[[red, green, both, none]] = 30
    amounts, labels = [], []
    for index in range(4):
        crops, label, _, _ = render_specimen(counts, 0, index)
        amounts.append(unmix(crops[:, 13:-13, 13:-13]).mean((1, 2)))
        labels.append(label)
    mean = [np.concatenate(amounts)[np.concatenate(labels) == c] for c in (red, green, both, none)]
    r, g, b, n = (m.mean(0) for m in mean)
    assert r[1] > n[1] + 0.01
    assert g[2] > n[2] + 0.01
    assert b[1] > n[1]
    assert b[2] > n[2]


def test_jpeg_loses_little_at_the_qualities_in_use() -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 2 + 60, 64, 0).repeat(3, 2)
    assert np.abs(jpeg(ramp, 70, 2).astype(int) - ramp).max() < 8


@pytest.mark.long
def test_the_source_says_that_it_is_synthetic_and_repeats_its_bytes(tmp_path: Path) -> None:
    stores = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        Synthetic(cells=200, specimens=6, seed=1, workers=workers).fill(folder)
        stores.append(CellStore(folder))
    assert stores[0].manifest.source["synthetic"] is True
    assert stores[0].manifest.fingerprint == stores[1].manifest.fingerprint
    assert stores[0].manifest.classes == list(CLASSES)
    assert stores[0].geometry == GEOMETRY
    assert stores[0].cells["specimen"].nunique() == 6
    counts = plan_counts(200, 6, 1).sum(axis=0)
    assert list(stores[0].manifest.counts.values()) == counts.tolist()


def test_the_source_refuses_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="`cells` to be in"):
        Synthetic(cells=200_000, specimens=6, seed=1, workers=0)
    with pytest.raises(ValueError, match="`specimens` to be in"):
        Synthetic(cells=2000, specimens=2, seed=1, workers=0)


@pytest.mark.long
def test_colour_alone_does_not_tell_the_types() -> None:
    """A forest on each crop's mean and sd of stain, specimens apart; 0.45 is the mark, at any size."""
    crops, labels, specimens = [], [], []
    for index, specimen_crops, specimen_labels, _, _ in render(4000, 16, 0, workers=0, size=CropSize(margin_px=0)):
        crops.append(specimen_crops)
        labels.append(specimen_labels)
        specimens.append(np.full(len(specimen_labels), index))
    density = [unmix(part) for part in crops]
    features = np.concatenate([np.hstack([d.mean(axis=(1, 2)), d.std(axis=(1, 2))]) for d in density])
    truth, test = np.concatenate(labels), np.concatenate(specimens) < 4
    forest = RandomForestClassifier(100, min_samples_leaf=2, class_weight="balanced_subsample", random_state=0)
    guess = forest.fit(features[~test], truth[~test]).predict(features[test])
    assert 1 / 16 < f1_score(truth[test], guess, average="macro") < 0.45


def test_another_hospital_is_other_light_on_the_same_specimens(tmp_path: Path) -> None:
    """Hospital a is that of all stores before there were two; b has a darker, warmer white and other names."""
    size = CropSize()
    ours, theirs = (render_specimen(ONE_OF_EACH, 3, 0, size, HOSPITALS[name]) for name in "ab")
    np.testing.assert_array_equal(ours[0], render_specimen(ONE_OF_EACH, 3, 0)[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(ours[2], theirs[2])
    brightest = [np.quantile(crops, 0.99, axis=(0, 1, 2)) for crops in (ours[0], theirs[0])]
    assert (brightest[1] < brightest[0]).all()
    assert brightest[1][2] < brightest[1][0]
    stores = {}
    for name in ("a", "b"):
        source = Synthetic(cells=200, specimens=6, seed=1, workers=0, hospital=name)  # type: ignore[arg-type]
        (tmp_path / name).mkdir()
        source.fill(tmp_path / name)
        stores[name] = CellStore(tmp_path / name)
    assert "hospital" not in Synthetic(cells=200, specimens=6, seed=1, workers=0).describe()
    assert stores["a"].manifest.fingerprint != stores["b"].manifest.fingerprint
    assert not set(stores["a"].cells["specimen"]) & set(stores["b"].cells["specimen"])
