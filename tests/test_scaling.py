"""Curves against scipy's own fit, crossings and targets with known answers."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from cellpatch.analysis import scaling

LIMITS = [256, 512, 1024, 2048, 4096]


def test_a_power_law_is_found_again() -> None:
    true = np.array([[0.1, 0.4, 0.5], [0.0, 0.3, 1.0]])
    scores = scaling.power_law(true, 256, LIMITS)
    assert scores[0, 2] == pytest.approx(1 - 0.1 - 0.4 * 4**-0.5)
    np.testing.assert_allclose(scaling.fit_power_law(LIMITS, scores), true, atol=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
@example(seed=175297)  # no floor and a small exponent: exponents 0.025 apart were too coarse
def test_no_worse_than_scipys_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.array([rng.uniform(0, 0.3), rng.uniform(0.1, 0.5), rng.uniform(0.2, 1.5)])
    scores = scaling.power_law(true, 256, LIMITS) + rng.normal(0, 0.01, len(LIMITS))
    mine = ((scaling.power_law(scaling.fit_power_law(LIMITS, scores), 256, LIMITS) - scores) ** 2).sum()

    def curve(limit: np.ndarray, floor: float, gain: float, exponent: float) -> np.ndarray:
        return scaling.power_law(np.array([floor, gain, exponent]), 256, limit.tolist())

    bounds = ([0, 0, scaling.EXPONENTS[0]], [1, np.inf, scaling.EXPONENTS[-1]])
    theirs, _ = curve_fit(curve, np.array(LIMITS), scores, p0=[0.1, 0.3, 0.5], bounds=bounds, max_nfev=10000)
    assert mine <= 1.05 * ((curve(np.array(LIMITS), *theirs) - scores) ** 2).sum() + 5e-6  # the grid of exponents


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_fits_are_of_possible_errors(seed: int) -> None:
    scores = np.random.default_rng(seed).random((20, 5))
    fit = scaling.fit_power_law(LIMITS, scores)
    assert (fit[:, :2] >= 0).all()
    assert (np.diff(scaling.power_law(fit, 256, LIMITS)) >= -1e-12).all()


def test_what_the_data_do_not_support_is_refused() -> None:
    rng = np.random.default_rng(0)
    grows = scaling.power_law(np.array([0.1, 0.4, 0.5]), 256, LIMITS) + rng.normal(0, 0.003, (500, 5))
    assert scaling.why_no_power_law(LIMITS, grows) is None
    assert scaling.why_no_power_law(LIMITS[:3], grows[:, :3]) == "3 limits, and a power law with a floor needs 4"
    flat = 0.6 + rng.normal(0, 0.01, (500, 5))
    assert "no growth beyond chance from 256 to 4096" in str(scaling.why_no_power_law(LIMITS, flat))
    for scores, words in (
        ([0.5, 0.7, 0.7, 0.7, 0.7], "is at an end of the searched range, 0.062 to 2"),
        ([0.50, 0.505, 0.515, 0.535, 0.575], "is at an end"),
        ([0.5, 0.7, 0.6, 0.72, 0.65], "is at an end"),
        ([0.5, 0.51, 0.55, 0.65, 0.8], "no power law fits: scores deviate by 0.05"),
    ):
        drawn = np.array(scores) + rng.normal(0, 0.01, (500, 5))
        assert words in str(scaling.why_no_power_law(LIMITS, drawn)), scores
    noisy = grows + rng.normal(0, 0.06, (500, 5))
    assert "the exponent is not identifiable" in str(scaling.why_no_power_law(LIMITS, noisy))


def test_scores_of_a_power_law_are_rarely_refused() -> None:
    rng = np.random.default_rng(1)
    true = scaling.power_law(np.array([0.1, 0.4, 0.4]), 256, LIMITS)
    found = [true + rng.normal(0, 0.01, 5) for _ in range(60)]
    refused = [scaling.why_no_power_law(LIMITS, each + rng.normal(0, 0.01, (500, 5))) for each in found]
    assert sum("goes through" in str(why) for why in refused) <= 3


def test_where_a_model_overtakes() -> None:
    ahead = np.array(
        [
            [-0.1, 0.1, 0.2, 0.2, 0.2],  # half way between 256 and 512 on the log axis
            [0.1, 0.1, 0.1, 0.1, 0.1],
            [-0.1, -0.1, -0.1, -0.1, -0.1],
            [0.1, -0.1, -0.3, 0.1, 0.1],  # a lead that is lost does not count
            [0.1, 0.1, 0.1, 0.1, -0.1],
        ]
    )
    expected = [256 * 2**0.5, 0, np.inf, 1024 * 2**0.75, np.inf]
    np.testing.assert_allclose(scaling.overtakes_at(LIMITS, ahead), expected)
    assert scaling.overtakes_at(LIMITS, ahead[0]) == pytest.approx(expected[0])


def test_how_many_annotations_a_target_takes() -> None:
    fit = np.array([0.1, 0.4, 0.5])
    scores = scaling.power_law(fit, 256, LIMITS)
    assert scaling.limit_for(LIMITS, scores, float(scores[0]) - 0.01, fit) == 0
    assert scaling.limit_for(LIMITS, scores, float(scores[2]), fit) == pytest.approx(1024)
    assert scaling.limit_for(LIMITS, scores, 0.83) == np.inf
    assert scaling.limit_for(LIMITS, scores, float(scores[-1])) == pytest.approx(4096), "the last score is reached"
    assert scaling.limit_for(LIMITS, scores, 0.83, fit) == pytest.approx(256 * (0.4 / 0.07) ** 2)
    assert scaling.limit_for(LIMITS, scores, 0.89, fit) == np.inf, "too far to believe"
    assert scaling.limit_for(LIMITS, scores, 0.95, fit) == np.inf, "below the floor of errors"
