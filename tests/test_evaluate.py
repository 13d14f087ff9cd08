import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from cellpatch.evaluate import ECE_BINS, confusion, expected_calibration_error, measure


def _cells(seed: int, n: int = 200, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    probabilities = rng.dirichlet(np.ones(k), n).astype(np.float32)
    return labels, probabilities


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_equal_to_torchmetrics(seed: int) -> None:
    labels, probabilities = _cells(seed)
    got = measure(labels, probabilities, list("abcd"))
    p, t = torch.from_numpy(probabilities), torch.from_numpy(labels)
    assert got["accuracy"] == pytest.approx(float(multiclass_accuracy(p, t, 4, average="micro")))
    assert got["balanced_accuracy"] == pytest.approx(float(multiclass_accuracy(p, t, 4, average="macro")))
    assert got["macro_f1"] == pytest.approx(float(multiclass_f1_score(p, t, 4, average="macro")))
    assert got["ece"] == pytest.approx(float(multiclass_calibration_error(p, t, 4, n_bins=ECE_BINS)), abs=1e-6)
    np.testing.assert_array_equal(confusion(labels, probabilities), multiclass_confusion_matrix(p, t, 4))


def test_known_answers() -> None:
    labels = np.array([0, 0, 1, 1])
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], dtype=np.float32)
    got = measure(labels, sure, ["a", "b"])
    assert got["accuracy"] == 0.75
    assert got["per_class"]["a"]["precision"] == pytest.approx(2 / 3)
    assert got["per_class"]["b"]["recall"] == 0.5
    assert expected_calibration_error(labels, sure) == pytest.approx(0.15)


def test_a_class_without_test_cells_is_left_out_of_the_means() -> None:
    labels = np.array([0, 0, 1])
    perfect = np.eye(3, dtype=np.float32)[labels]
    got = measure(labels, perfect, ["a", "b", "absent"])
    assert got["macro_f1"] == got["balanced_accuracy"] == 1
    assert got["per_class"]["absent"] == {"n_test": 0, "precision": None, "recall": None, "f1": None}


def test_a_class_never_predicted_counts_as_zero() -> None:
    labels = np.array([0, 1])
    always_a = np.array([[0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    got = measure(labels, always_a, ["a", "b"])
    assert got["per_class"]["b"]["f1"] == 0
    assert got["macro_f1"] == pytest.approx(1 / 3)
