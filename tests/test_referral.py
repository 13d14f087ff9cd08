"""The least sure cells go to a human: which cells stay, and what they score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellpatch.metrics.classification import selective_accuracy
from cellpatch.metrics.referral import STEPS, ShareToSend, kept_cells, kept_counts, risk_area


def _cells(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(0, 1, (n, 3)) + 2 * np.eye(3)[labels]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rng.integers(0, 5, n)


@given(n=st.integers(5, 300), seed=st.integers(0, 99), step=st.integers(0, STEPS - 1))
def test_the_rest_is_what_selective_accuracy_keeps(n: int, seed: int, step: int) -> None:
    labels, probabilities, specimens = _cells(n, seed)
    share = step / STEPS
    kept = kept_cells(probabilities, share)
    expected = selective_accuracy(labels, probabilities, 1 - share)
    assert (probabilities[kept].argmax(axis=1) == labels[kept]).mean() == pytest.approx(expected)
    counts = kept_counts(labels, probabilities, specimens, 5)
    assert counts[:, 0, 0].tolist() == np.bincount(specimens, minlength=5).tolist()
    cells, right = counts[..., step].sum(axis=0)
    if cells:
        assert cells == kept.sum()
        assert right / cells == pytest.approx(expected)


def test_a_share_is_the_smallest_that_is_enough() -> None:
    """A hundred cells, of which the ten least sure and one other are wrong."""
    sent = np.ones((2, STEPS), int)  # one cell a step
    sent[1, :10] = sent[1, 60] = 0
    counts = sent[:, ::-1].cumsum(axis=1)[:, ::-1]
    assert ShareToSend(0.95)(counts) == pytest.approx(0.07)  # 93 cells, 4 of them wrong
    assert ShareToSend(0.89)(counts) == 0
    assert ShareToSend(1.0)(counts) == pytest.approx(0.61)
    assert ShareToSend(1.0)(counts - [[0], [1]]) == 1  # the surest is wrong too


def test_the_area_is_the_mean_error_over_shares() -> None:
    labels, probabilities, specimens = _cells(1000, 3)
    counts = kept_counts(labels, probabilities, specimens, 5)
    errors = [1 - selective_accuracy(labels, probabilities, 1 - step / STEPS) for step in range(STEPS)]
    assert risk_area(counts.sum(axis=0)) == pytest.approx(np.mean(errors))
    both = risk_area(np.stack([counts.sum(axis=0), counts[0]]))
    assert both.shape == (2,)
    assert both[0] == pytest.approx(np.mean(errors))
