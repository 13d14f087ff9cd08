import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from torch.nn.functional import cross_entropy, nll_loss
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
)

from cellpatch.metrics.calibration import (
    ECE_BINS,
    brier,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    pool_bins,
    reliability,
    scale,
)
from cellpatch.metrics.classification import (
    ClassScores,
    Costs,
    auroc,
    confusion,
    score_predictions,
    selective_accuracy,
)
from cellpatch.metrics.scores import (
    class_counts,
    confusions_by_specimen,
    macro_f1,
    macro_f1_of,
    widespread_classes,
)
from cellpatch.runs import table


def _cells(seed: int, n: int = 200, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    probabilities = rng.dirichlet(np.ones(k), n).astype(np.float32)
    return labels, probabilities


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_equal_to_torchmetrics(seed: int) -> None:
    labels, probabilities = _cells(seed)
    got = score_predictions(labels, probabilities, list("abcd"), 1.0)
    p, t = torch.from_numpy(probabilities), torch.from_numpy(labels)
    assert got.accuracy == pytest.approx(float(multiclass_accuracy(p, t, 4, average="micro")))
    assert got.balanced_accuracy == pytest.approx(float(multiclass_accuracy(p, t, 4, average="macro")))
    assert got.macro_f1 == pytest.approx(float(multiclass_f1_score(p, t, 4, average="macro")))
    assert got.ece == pytest.approx(float(multiclass_calibration_error(p, t, 4, n_bins=ECE_BINS)), abs=1e-6)
    assert got.mcc == pytest.approx(float(multiclass_matthews_corrcoef(p, t, 4)), abs=1e-6)
    assert got.auroc == pytest.approx(float(multiclass_auroc(p, t, 4, average="macro")), abs=1e-6)
    assert got.nll == pytest.approx(float(nll_loss(p.double().log(), t)))
    assert got.brier == pytest.approx(
        sum(brier_score_loss(labels == code, probabilities[:, code]) for code in range(4)), rel=1e-5
    )
    np.testing.assert_array_equal(confusion(labels, probabilities), multiclass_confusion_matrix(p, t, 4))


def test_known_answers() -> None:
    labels = np.array([0, 0, 1, 1])
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], dtype=np.float32)
    got = score_predictions(labels, sure, ["a", "b"], 1.0)
    assert got.accuracy == 0.75
    assert got.per_class["a"].precision == pytest.approx(2 / 3)
    assert got.per_class["b"].recall == 0.5
    assert expected_calibration_error(labels, sure) == pytest.approx(0.15)


def test_a_class_without_test_cells_is_left_out_of_the_means() -> None:
    labels = np.array([0, 0, 1])
    perfect = np.eye(3, dtype=np.float32)[labels]
    got = score_predictions(labels, perfect, ["a", "b", "absent"], 1.0)
    assert got.macro_f1 == got.balanced_accuracy == 1
    assert got.per_class["absent"] == ClassScores(n_test=0, precision=None, recall=None, f1=None)


def test_a_class_never_predicted_counts_as_zero() -> None:
    labels = np.array([0, 1])
    always_a = np.array([[0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    got = score_predictions(labels, always_a, ["a", "b"], 1.0)
    assert got.per_class["b"].f1 == 0
    assert got.macro_f1 == pytest.approx(1 / 3)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.1, 10))
def test_scaling_divides_logits(seed: int, temperature: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(50, 4)))
    got = scale(logits.softmax(1).numpy(), temperature)
    np.testing.assert_allclose(got, (logits / temperature).softmax(1).numpy(), atol=1e-9)


def test_temperature_is_what_made_a_model_too_sure() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(20000, 5)) * 2)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in logits.softmax(1).numpy()])
    assert fit_temperature(labels, (3 * logits).softmax(1).numpy()) == pytest.approx(3, rel=0.05)
    best = fit_temperature(labels, (3 * logits).softmax(1).numpy())
    losses = [float(cross_entropy(3 * logits / t, torch.from_numpy(labels))) for t in (0.9 * best, best, 1.1 * best)]
    assert losses[1] == min(losses)


def test_temperature_moves_calibration_and_no_decision() -> None:
    labels, probabilities = _cells(3)
    one, two = (score_predictions(labels, probabilities, list("abcd"), t) for t in (1.0, 2.5))
    assert one.ece_scaled == pytest.approx(one.ece, abs=1e-6)
    assert two.nll_scaled != pytest.approx(two.nll)
    same = ("accuracy", "macro_f1", "ece", "nll", "brier", "auroc", "per_class")
    assert {key: getattr(one, key) for key in same} == {key: getattr(two, key) for key in same}


def test_selective_accuracy_is_of_the_surest() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5]], dtype=np.float32)
    labels = np.array([0, 0, 0, 1, 1])
    assert [selective_accuracy(labels, probabilities, c) for c in (0.6, 0.8, 1.0)] == [1.0, 0.75, 0.6]
    assert selective_accuracy(labels, probabilities, 0.0) == 1.0


def test_costs_count_confusions_among_the_named() -> None:
    labels = np.array([0, 0, 1, 2, 2])
    predicted = np.eye(3, dtype=np.float32)[[0, 1, 0, 0, 2]]
    names = ["x", "y", "z"]
    costs = Costs(["x", "y"], 5.0)
    assert costs.error(labels, predicted, names) == pytest.approx((0 + 5 + 5 + 1 + 0) / 5)
    assert Costs([], 5.0).error(labels, predicted, names) == pytest.approx(3 / 5)
    output = score_predictions(labels, predicted, names, 1.0, costs)
    assert output.cost_weighted_error == costs.error(labels, predicted, names)
    assert score_predictions(labels, predicted, names, 1.0, Costs([], 5.0)).cost_weighted_error is None
    with pytest.raises(ValueError, match="data.costs.classes must be of .'x', 'y', 'z'., but has .'w'."):
        Costs(["w", "x"], 5.0).codes(names)
    for bad in (["x"], 5.0), ([], -1.0), ([], float("nan")):
        with pytest.raises(ValueError, match="data.costs.classes must name none or several"):
            Costs(*bad)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), levels=st.sampled_from([1, 2, 5, 10**9]), k=st.integers(2, 5))
def test_auroc_is_scikit_learns_to_the_last_bit(seed: int, n: int, levels: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = (rng.integers(0, levels + 1, (n, k)) / levels).astype(np.float32)
    labels = np.append(rng.integers(0, k, n - 1), seed % k)
    present = np.unique(labels)
    if len(present) > 1:
        assert auroc(labels, probabilities) == np.mean(
            [roc_auc_score(labels == code, probabilities[:, code]) for code in present]
        )


def test_a_single_class_has_no_auroc() -> None:
    assert np.isnan(auroc(np.zeros(3, int), np.full((3, 2), 0.5)))
    with pytest.raises(ValueError, match="probabilities must be finite"):
        auroc(np.arange(3), np.full((3, 3), np.nan))


def test_impossible_truths_cost_much_but_stay_finite() -> None:
    got = score_predictions(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]], dtype=np.float32), ["a", "b"], 0.5)
    assert 40 < got.nll < 50
    assert np.isfinite(got.nll_scaled)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 6))
def test_calibration_metrics_equal_the_libraries_on_ordinary_inputs(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    labels, codes = rng.integers(0, k, 300), list(range(k))
    probabilities = rng.dirichlet(np.full(k, 3.0), 300)
    assert negative_log_likelihood(labels, probabilities) == pytest.approx(
        log_loss(labels, probabilities, labels=codes), rel=1e-9
    )
    assert brier(labels, probabilities) == pytest.approx(
        brier_score_loss(labels, probabilities, labels=codes, scale_by_half=False), rel=1e-9
    )
    theirs = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), k, n_bins=ECE_BINS)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(float(theirs), abs=1e-6)


def test_where_libraries_differ_ours_is_as_documented() -> None:
    labels = np.array([0, 1])
    impossible = np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert negative_log_likelihood(labels, impossible) == pytest.approx(-np.log(np.finfo(np.float32).tiny) / 2)
    assert log_loss(labels, impossible) == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2, rel=1e-3)
    rounded = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0.0], [0.2, 0.8]], dtype=np.float32)
    assert expected_calibration_error(labels, rounded) == pytest.approx(0.1, abs=1e-6)
    as_logits = multiclass_calibration_error(torch.from_numpy(rounded), torch.from_numpy(labels), 2, n_bins=ECE_BINS)
    assert float(as_logits) > 0.2
    assert brier(labels, rounded) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="greater than 1"):
        brier_score_loss(labels, rounded, labels=[0, 1], scale_by_half=False)


def test_macro_f1_over_widespread_classes_by_hand() -> None:
    """Twelve specimens: a in all, b in ten, c in two. Cells of c are called a, and those of a now and then c."""
    labels, predicted, specimens = [], [], []
    for specimen in range(12):
        cells = [(0, 0), (0, 2 if specimen < 3 else 0)] + [(1, 1)] * (specimen < 10) + [(2, 0)] * (specimen < 2)
        for label, answer in cells:
            labels.append(label)
            predicted.append(answer)
            specimens.append(f"s{specimen:02}")
    confusions = confusions_by_specimen(np.array(labels), np.array(predicted), np.array(specimens), 3)
    true = confusions.sum(axis=2)
    assert widespread_classes(true) == (0, 1)
    assert [widespread_classes(true, least) for least in (1, 2, 3, 11, 13)] == [(0, 1, 2), (0, 1, 2), (0, 1), (0,), ()]
    whole = class_counts(confusions.sum(axis=0))
    of_a, of_b, of_c = 2 * 21 / (24 + 23), 1.0, 0.0  # a: 24 true cells, 21 found, 2 of c called a
    assert macro_f1_of((0, 1))(whole) == pytest.approx((of_a + of_b) / 2)
    assert macro_f1(whole) == pytest.approx((of_a + of_b + of_c) / 3)
    assert macro_f1_of((0, 1, 2))(whole) == pytest.approx(macro_f1(whole))
    draws = np.stack([whole, 2 * whole])
    np.testing.assert_allclose(macro_f1_of((0,))(draws), [of_a, of_a])
    assert np.isnan(macro_f1_of(())(draws)).tolist() == [True, True]
    assert macro_f1_of((0, 1)) is macro_f1_of((0, 1)), "the analysis caches by score function"
    scores = score_predictions(np.array(labels), np.eye(3)[predicted], ["a", "b", "c"], 1.0)
    in_table = table._widespread(scores, dict(zip("abc", (true > 0).sum(axis=0).tolist(), strict=True)))
    assert in_table == {"macro_f1_widespread": pytest.approx((of_a + of_b) / 2), "classes_not_widespread": 1}
    assert table._widespread(scores, dict.fromkeys("abc", 9)) == {"classes_not_widespread": 3}
    assert table._widespread(scores, None) == {}


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 5))
def test_bins_of_reliability_give_the_calibration_error_and_pool(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.full(k, 0.3), 90).astype(np.float32), rng.integers(0, k, 90)
    bins = reliability(labels, probabilities)
    error = sum(each.n * abs(each.confidence - each.accuracy) for each in bins) / 90
    assert error == pytest.approx(expected_calibration_error(labels, probabilities))
    parts = [reliability(labels[part], probabilities[part]) for part in (slice(0, 40), slice(40, 90))]
    pooled = pool_bins([each for part in parts for each in part])
    assert [each.n for each in pooled] == [each.n for each in bins]
    for name in ("confidence", "accuracy"):
        assert [getattr(each, name) for each in pooled] == pytest.approx([getattr(each, name) for each in bins])
