from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from torch.nn.functional import interpolate, pad

from cellpatch.optics.conditions import CLEAN, KINDS, Condition, OpticsSettings
from cellpatch.optics.kernels import blur_matrix, disc_kernel, kornia_sigma, line_kernel
from cellpatch.optics.operator import (
    OpticalPath,
    Optics,
    RandomOptics,
    axis_operator,
    reaches_beyond_margin,
    to_pixels,
)
from cellpatch.optics.resizing import resize_matrix

RADIUS_SIGMAS = KINDS["post"].radius_sigmas


def _optics(
    crop: int,
    margin: int,
    target: int,
    via: int | None = None,
    condition: Condition = CLEAN,
    resize: Any = "bilinear",
) -> Optics:
    return OpticalPath(crop, margin, target, via, resize).under(condition)


def _axis(
    crop: int,
    margin: int,
    target: int,
    via: int | None,
    kind: str = "none",
    sigma: float = 0.0,
    resize: Any = "bilinear",
) -> torch.Tensor:
    return axis_operator(OpticalPath(crop, margin, target, via, resize), Condition(kind, sigma))


def _direct(
    x: torch.Tensor,
    crop: int,
    margin: int,
    target: int,
    via: int | None,
    kind: str = "none",
    sigma: float = 0.0,
    how: str = "bilinear",
) -> torch.Tensor:
    """The chain by Kornia and torch on whole images, step after step.

    The image lies in a canvas of whole crops, so that its resize has whole pixels; beside it, the canvas counts nothing.
    """

    def blur(image: torch.Tensor, sigma_px: float) -> torch.Tensor:
        radius_sigmas = KINDS[kind].radius_sigmas
        side = 2 * int(np.ceil(radius_sigmas * sigma_px)) + 1
        asked = kornia_sigma(sigma_px, radius_sigmas)
        return gaussian_blur2d(image, (side, side), (asked, asked), "reflect")

    def cut(image: torch.Tensor, n: int) -> torch.Tensor:
        return image[..., n : image.shape[-2] - n, n : image.shape[-1] - n]

    def resize(image: torch.Tensor, side: int) -> torch.Tensor:
        return interpolate(image, (side, side), mode=how, antialias=how != "area")

    resized = via or target
    if kind == "pre":
        x = blur(x, sigma * crop / 40)
    around = int(np.ceil(margin / crop))
    canvas, inside = ([around * crop - margin] * 4, (2 * around + 1) * resized)
    seen = resize(pad(torch.ones_like(x), canvas), inside)
    beyond = margin * resized // crop
    n = around * resized - beyond
    x = cut(resize(pad(x, canvas), inside), n) / cut(seen, n)
    if kind == "post":
        x = blur(x, sigma * resized / 40)
    return resize(cut(x, beyond), target)


CROPS = {"crop": st.integers(16, 96), "margin": st.integers(0, 30), "via": st.sampled_from([None, 40])}
BLURS = {"kind": st.sampled_from(["none", "pre", "post"]), "sigma": st.floats(0.01, 3.2)}
HOWS = {"how": st.sampled_from(["bilinear", "bicubic", "area"])}


def _fits(crop: int, margin: int, resized: int, kind: str, sigma: float) -> bool:
    """Whether the kernel is no wider than what it blurs."""
    blurred = resized + 2 * (margin * resized // crop) if kind == "post" else crop + 2 * margin
    sigma_px = sigma * (resized if kind == "post" else crop) / 40
    return kind == "none" or 2 * np.ceil(KINDS[kind].radius_sigmas * sigma_px) + 1 <= blurred


@settings(max_examples=100)
@given(**CROPS, **BLURS, **HOWS, target=st.one_of(st.integers(16, 96), st.just(224)))
def test_equals_the_direct_chain(
    crop: int, margin: int, via: int | None, kind: str, sigma: float, how: Any, target: int
) -> None:
    assume(_fits(crop, margin, via or target, kind, sigma))
    x = torch.rand(2, 3, crop + 2 * margin, crop + 2 * margin, generator=torch.Generator().manual_seed(crop))
    condition = CLEAN if kind == "none" else Condition(kind, sigma)
    got = _optics(crop, margin, target, via, condition, how)(x)
    expected = _direct(x.double(), crop, margin, target, via, condition.kind, condition.sigma, how)
    expected = expected.clamp(0, 1) if how == "bicubic" else expected
    torch.testing.assert_close(got, expected.float(), atol=1e-5, rtol=0)


@settings(max_examples=30)
@given(side=st.integers(60, 120), sigma=st.floats(0.1, 7))
def test_blur_is_scipys(side: int, sigma: float) -> None:
    x = np.random.default_rng(side).random((side, side))
    radius = int(np.ceil(RADIUS_SIGMAS * sigma))
    expected = gaussian_filter(x, kornia_sigma(sigma, RADIUS_SIGMAS), mode="mirror", radius=radius)
    matrix = blur_matrix(side, sigma, RADIUS_SIGMAS).numpy()
    np.testing.assert_allclose(matrix @ x @ matrix.T, expected, atol=1e-6)


@settings(max_examples=60)
@given(sigma=st.floats(0.001, 10))
def test_a_blurred_point_is_as_wide_as_asked(sigma: float) -> None:
    row = blur_matrix(121, sigma, RADIUS_SIGMAS)[60].numpy()
    assert np.sqrt((row * (np.arange(121) - 60) ** 2).sum()) == pytest.approx(sigma, rel=1e-3)
    assert row.sum() == pytest.approx(1, abs=1e-12)
    assert row.min() >= 0


@pytest.mark.parametrize("kind", ["pre", "post"])
@pytest.mark.parametrize("sigma", [0.4, 0.8, 1.6, 3.2])
def test_levels_of_the_study_are_as_wide_as_asked_on_crops_of_20_px(kind: str, sigma: float) -> None:
    x = torch.zeros(1, 3, 46, 46)
    x[..., 23, 23] = 1
    clean, blurred = (_optics(20, 13, 40, 40, c)(x)[0, 0].double() for c in (CLEAN, Condition(kind, sigma)))
    places = torch.arange(40, dtype=torch.float64)

    def variance(image: torch.Tensor) -> float:
        along = image.sum(0) / image.sum()
        return float(along @ places**2 - (along @ places) ** 2)

    assert np.sqrt(variance(blurred) - variance(clean)) == pytest.approx(sigma, rel=0.01)


def test_from_a_pixel_on_kornias_sigma_is_the_asked_one() -> None:
    assert kornia_sigma(1.0, RADIUS_SIGMAS) == 1
    assert kornia_sigma(1.6, RADIUS_SIGMAS) == 1.6
    assert kornia_sigma(0.9999, RADIUS_SIGMAS) == pytest.approx(0.9999, abs=1e-4)
    assert kornia_sigma(0.4, RADIUS_SIGMAS) == pytest.approx(0.4607, abs=1e-4)


def test_sigma_zero_is_exactly_the_identity() -> None:
    assert torch.equal(blur_matrix(31, 0.0, RADIUS_SIGMAS), torch.eye(31, dtype=torch.float64))
    for kind in ("pre", "post"):
        assert torch.equal(_axis(80, 26, 40, 40, kind, 0.0), _axis(80, 26, 40, 40))


@settings(max_examples=60)
@given(**CROPS, **BLURS, **HOWS, target=st.sampled_from([40, 56, 224]))
def test_operators_keep_constants_and_commute_with_flips(
    crop: int, margin: int, via: int | None, kind: str, sigma: float, how: Any, target: int
) -> None:
    assume(_fits(crop, margin, via or target, kind, sigma))
    whole = _axis(crop, margin, target, via, kind, sigma, how)
    torch.testing.assert_close(whole.sum(1), torch.ones(target), atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.flip(0).flip(1), whole, atol=1e-6, rtol=0)


def test_an_operator_is_made_once() -> None:
    assert _axis(40, 13, 40, 40, "pre", 1.6) is _axis(40, 13, 40, 40, "pre", 1.6)
    optics = _optics(40, 0, 40, 40, Condition("pre", 1.6))
    optics.operator.zero_()
    assert _axis(40, 0, 40, 40, "pre", 1.6).any()


@pytest.mark.parametrize("cells", [0, 1, 64])
def test_on_a_cpu_the_operator_is_the_two_products_of_its_formula(cells: int) -> None:
    optics = _optics(33, 13, 40, 56, Condition("post", 0.8))
    x = torch.rand(cells, 3, optics.needed_px, optics.needed_px)
    torch.testing.assert_close(optics(x), optics.operator @ x @ optics.operator.T, atol=1e-6, rtol=0)


def test_where_borders_enter_is_known() -> None:
    assert not reaches_beyond_margin(CLEAN, OpticalPath(40, 0, 40))
    for kind in ("pre", "post", "defocus", "motion"):
        assert reaches_beyond_margin(Condition(kind, 0.4), OpticalPath(40, 0, 40))
        assert not reaches_beyond_margin(Condition(kind, 3.2), OpticalPath(40, 13, 40))
    assert reaches_beyond_margin(Condition("pre", 3.2), OpticalPath(80, 25, 40))
    assert not reaches_beyond_margin(Condition("defocus", 3.2), OpticalPath(80, 25, 40))


def test_before_and_after_agree_where_there_is_nothing_to_alias() -> None:
    axis = torch.arange(80 + 52) * 2 * torch.pi / 40  # waves of 20 px of the resized image
    x = (0.5 + 0.25 * torch.sin(axis)[:, None] + 0.2 * torch.cos(axis)[None]).expand(1, 3, -1, -1)
    before, after = (_optics(80, 26, 40, 40, Condition(kind, 1.6))(x) for kind in ("pre", "post"))
    clean = _optics(80, 26, 40, 40)(x)
    assert (before - after).abs().max() < 0.002
    assert (clean - after).abs().max() > 0.02


def test_no_reflected_border_enters_while_the_margin_suffices() -> None:
    slide = torch.rand(1, 3, 300, 300)
    crop, margin = slide[..., 107:193, 107:193], 13  # 60 px and 13 around them
    for kind in ("pre", "post"):
        sigma = 0.999 * margin / 4 / 60 * 40  # a radius of the margin
        inside = _optics(60, margin, 60, None, Condition(kind, sigma))(crop)
        whole = _optics(60, 120, 60, None, Condition(kind, sigma))(slide)
        torch.testing.assert_close(inside, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("crop", [33, 37, 40, 43, 46])
@pytest.mark.parametrize("kind", ["none", "pre", "post"])
def test_a_crop_of_any_side_sees_its_margin_and_no_border(crop: int, kind: str) -> None:
    slide = torch.rand(1, 3, 5 * crop, 5 * crop, generator=torch.Generator().manual_seed(crop))
    n = crop // 2  # the margin; a blur and a filter reach less
    here = slide[..., 2 * crop - n : 3 * crop + n, 2 * crop - n : 3 * crop + n]
    condition = Condition(kind, 0.0 if kind == "none" else 1.6)
    whole = _optics(crop, 2 * crop, 40, 40, condition)(slide)
    torch.testing.assert_close(_optics(crop, n, 40, 40, condition)(here), whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("drawn", [False, True])
def test_optics_are_of_full_precision_under_autocast_too(drawn: bool) -> None:
    optics: Any = _optics(20, 7, 40, 40, Condition("post", 1.6))
    optics = RandomOptics([optics]) if drawn else optics
    x = torch.rand(2, 3, 34, 34)
    with torch.autocast("cpu", torch.bfloat16):
        got = optics(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, optics(x))


def test_bicubic_stays_between_black_and_white() -> None:
    x = torch.zeros(1, 3, 20, 20)
    x[..., 10:] = 1
    found = _optics(20, 0, 40, 40, resize="bicubic")(x)
    assert found.min() == 0
    assert found.max() == 1


@pytest.mark.parametrize(("source", "target"), [(80, 40), (20, 40), (33, 40), (40, 224)])
def test_resize_is_pillows(source: int, target: int) -> None:
    crop = np.random.default_rng(0).random((source, source), dtype=np.float32)
    pillow = np.asarray(Image.fromarray(crop).resize((target, target), Image.Resampling.BILINEAR))
    x = torch.from_numpy(crop).expand(1, 3, -1, -1)
    np.testing.assert_allclose(_optics(source, 0, target)(x)[0, 0], pillow, atol=1e-5)


def test_at_its_own_side_a_crop_is_untouched() -> None:
    x = torch.rand(2, 3, 66, 66)
    assert torch.equal(_optics(40, 13, 40)(x), x[..., 13:53, 13:53])


@pytest.mark.parametrize(("crop", "margin", "read"), [(40, 13, 40), (20, 7, 22), (33, 0, 33)])
def test_trimming_takes_away_what_is_not_read(crop: int, margin: int, read: int) -> None:
    optics = _optics(crop, margin, 40)
    crops = torch.randint(0, 256, (2, crop + 2 * margin, crop + 2 * margin, 3), dtype=torch.uint8)
    trimmed = optics.trim(crops)
    assert trimmed.shape[1] == read
    assert torch.equal(optics(to_pixels(trimmed)), optics(to_pixels(crops)))


def test_constants_stay() -> None:
    np.testing.assert_allclose(resize_matrix(37, 40).sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("how", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize(("source", "target"), [(80, 40), (33, 40), (96, 30), (40, 224)])
def test_resizes_are_torchs(how: Any, source: int, target: int) -> None:
    x = torch.rand(1, 3, source, source)
    expected = interpolate(x, (target, target), mode=how, antialias=how != "area")
    torch.testing.assert_close(_optics(source, 0, target, resize=how)(x), expected.clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [disc_kernel, line_kernel])
@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.3, 0.8, 1.6, 3.2, 7.7])
def test_kernels_are_as_wide_as_asked(kernel: Any, sigma: float) -> None:
    found = kernel(sigma).numpy()
    places = np.arange(len(found)) - len(found) // 2
    y, x = np.meshgrid(places, places, indexing="ij")
    assert found.sum() == pytest.approx(1)
    assert np.sqrt((found * (x + y) ** 2 / 2).sum()) == pytest.approx(sigma, rel=0.01)
    np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-9)
    across = np.sqrt((found * (x - y) ** 2 / 2).sum())
    assert across == pytest.approx(sigma, rel=0.01) if kernel is disc_kernel else across < 0.6


def test_a_disc_is_even_and_a_line_is_straight() -> None:
    disc = disc_kernel(4.0).numpy()
    radius = np.hypot(*np.meshgrid(*[np.arange(len(disc)) - len(disc) // 2] * 2))
    assert np.ptp(disc[radius < 7]) < 1e-6
    assert (disc[radius > 9] == 0).all()
    line = line_kernel(4.0).numpy()
    assert np.diag(line).sum() > 0.5
    assert line[0, -1] == line[len(line) // 2, -1] == 0


@pytest.mark.parametrize(("kind", "kernel"), [("defocus", disc_kernel), ("motion", line_kernel)])
def test_defocus_and_motion_are_convolutions_of_native_pixels(kind: str, kernel: Any) -> None:
    crops = torch.randint(0, 256, (2, 86, 86, 3), dtype=torch.uint8)
    optics = _optics(60, 13, 40, 40, Condition(kind, 1.6))
    weights = kernel(2.4).numpy()
    blurred = np.stack(
        [[convolve(plane, weights, mode="mirror") for plane in crop] for crop in to_pixels(crops).numpy()]
    )
    expected = _optics(60, 13, 40, 40)(torch.from_numpy(blurred).float())
    torch.testing.assert_close(optics(to_pixels(crops)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(optics(to_pixels(optics.trim(crops))), expected, atol=1e-5, rtol=0)
    with pytest.raises(
        ValueError,
        match=r"optics (defocus|motion) 40 \(in pixels of 40x40\): a blur of sigma 60 px has a kernel of .* px, but crop and margin have only 86 px",
    ):
        _optics(60, 13, 40, 40, Condition(kind, 40.0))


def test_drawn_optics_give_each_crop_one_of_them() -> None:
    conditions = _conditions(["pre", "post"], 0.0, train=[0.0, 3.2]).trained(None)
    assert conditions[0] == Condition("post", 0.0)
    assert conditions[-1].kind == "pre"
    assert conditions[-1].sigma == pytest.approx(3.2)
    steps = np.diff([np.log2(1 + condition.sigma) for condition in conditions[:8]])
    np.testing.assert_allclose(steps, steps[0])
    several = [_optics(60, 13, 40, 40, condition) for condition in conditions]
    drawn = RandomOptics(several)
    x = torch.rand(64, 3, 86, 86)
    torch.manual_seed(0)
    got = drawn(x)
    nearest = (torch.stack([optics(x) for optics in several]) - got).abs().amax(dim=(2, 3, 4)).min(dim=0)
    assert nearest.values.max() < 1e-5
    assert len(nearest.indices.unique()) > 8
    torch.manual_seed(0)
    assert torch.equal(got, drawn(x))
    trimmed = drawn.trim(torch.zeros(1, 86, 86, 3, dtype=torch.uint8))
    assert drawn(to_pixels(trimmed)).shape == (1, 3, 40, 40)


def test_sigma_in_micrometres() -> None:
    conditions = OpticsSettings("pre", [0.25, 1.0], {}, "um", 40, "bilinear", [0.25, 0.5], ["pre"])
    assert conditions.evaluated(10.0) == [CLEAN, Condition("pre", 1.0), Condition("pre", 4.0)]
    assert conditions.trained(10.0)[-1].sigma == pytest.approx(2.0)
    with pytest.raises(ValueError, match="optics.unit=um needs the scale of the crops"):
        conditions.evaluated(None)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="margin_px must be >= 0, but got -1"):
        _axis(8, -1, 8, None)
    with pytest.raises(
        ValueError, match="kind must be one of none, pre, post, defocus, motion, jpeg, .*, dust, but got 'soft'"
    ):
        _axis(8, 1, 8, None, "soft", 1.0)
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sigma must be finite and >= 0"):
            blur_matrix(8, sigma, RADIUS_SIGMAS)
    with pytest.raises(
        ValueError, match="a blur of sigma 7 px has a kernel of 57 px, but crop and margin have only 52 px"
    ):
        _axis(40, 6, 40, 40, "pre", 7.0)
    with pytest.raises(ValueError, match="sides must be >= 1 px"):
        resize_matrix(8, 0)
    for side in (6, 11):
        with pytest.raises(ValueError, match=rf"takes crops of 8 \+ 2n px, but got {side}"):
            _optics(8, 2, 8)(torch.zeros(1, 3, side, side))


def _conditions(
    kind: Any, sigma: Any, via: int | None = 40, train: Any = None, train_kind: Any = ("pre", "post")
) -> OpticsSettings:
    return OpticsSettings(kind, sigma, {}, "px40", via, "bilinear", train, list(train_kind))


def test_conditions_are_every_kind_at_every_sigma_and_clean() -> None:
    assert _conditions(["pre", "post"], 0.0).evaluated(None) == [CLEAN]
    blurred = [Condition("post", 0.4), Condition("post", 1.6), Condition("pre", 0.4), Condition("pre", 1.6)]
    assert _conditions(["pre", "post"], [1.6, 0, 0.4, 1.6]).evaluated(None) == [CLEAN, *blurred]
    assert _conditions("none", 1.6).evaluated(None) == [CLEAN]


@pytest.mark.parametrize(
    ("kind", "sigma", "via", "message"),
    [
        ("soft", 1.0, 40, "optics.kind must be of none, pre, post, defocus, motion, but got soft"),
        ([], 1.0, 40, "optics.kind must be"),
        ("pre", -0.1, 40, "optics.sigma must be 0 to 4096, but got -0.1"),
        ("motion", 1e308, 40, r"optics.sigma must be 0 to 4096, but got 1e\+308"),
        ("pre", [1.0, float("nan")], 40, "optics.sigma must be 0 to 4096"),
        ("pre", [], 40, "optics.sigma must be 0 to 4096"),
        ("pre", 1.0, 2, "optics.via_px must be null or 4 to 4096, but got 2"),
        ("pre", 1.0, 100000, "optics.via_px must be null or 4 to 4096, but got 100000"),
    ],
)
def test_bad_conditions(kind: Any, sigma: Any, via: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _conditions(kind, sigma, via)


@pytest.mark.parametrize(
    ("kind", "train", "message"),
    [
        ("pre", [1.0], "optics.train must be null or .LOW, HIGH."),
        ("pre", [2.0, 1.0], "optics.train must be null"),
        ("pre", [-1.0, 1.0], "optics.train must be null"),
        ([], [0.0, 1.0], "optics.train_kind must be of pre and post, each once"),
        (["pre", "pre"], [0.0, 1.0], "optics.train_kind must be of pre and post, each once"),
    ],
)
def test_bad_training_blur(kind: Any, train: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _conditions("pre", 0.0, train=train, train_kind=kind if isinstance(kind, list) else [kind])
