"""The study of logit adjustment after training: known answers, and nothing judged on cells that chose tau."""

import sys
from pathlib import Path

import adjustment
import numpy as np
import pytest
from conftest import run_of_squares

RNG = np.random.default_rng(0)


def cells(n: int, prior: list[float], specimens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels by a prior, posteriors of a Gaussian feature under that prior, specimens."""
    labels = RNG.choice(len(prior), n, p=prior)
    centres = np.arange(len(prior)) * 1.5
    x = RNG.normal(centres[labels], 1.0)
    likelihood = np.exp(-0.5 * (x[:, None] - centres) ** 2)
    posterior = likelihood * np.array(prior)
    return labels, posterior / posterior.sum(axis=1, keepdims=True), RNG.integers(0, specimens, n)


def test_tau_one_divides_by_the_prior() -> None:
    probabilities, prior = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0.9, 0.1])
    np.testing.assert_allclose(adjustment.adjust(probabilities, prior, 1.0), [[1.0, 1.0], [2 / 3, 4.0]])
    np.testing.assert_array_equal(adjustment.adjust(probabilities, prior, 0.0), probabilities)


def test_a_rare_class_that_is_never_predicted_gains() -> None:
    prior = [0.97, 0.03]
    labels, probabilities, specimens = cells(4000, prior, 40)
    changes = adjustment.gains(labels, probabilities, np.array(prior), specimens)
    assert len(changes) == adjustment.DRAWS
    assert changes.mean() > 0.03


def test_equal_classes_gain_nothing() -> None:
    prior = [0.5, 0.5]
    labels, probabilities, specimens = cells(1000, prior, 20)
    np.testing.assert_array_equal(adjustment.gains(labels, probabilities, np.array(prior), specimens), 0.0)


def test_chance_does_not_look_like_a_gain() -> None:
    """Probabilities that know nothing: whatever tau wins on one half wins nothing on the other."""
    labels, specimens = RNG.integers(0, 3, 900), RNG.integers(0, 30, 900)
    probabilities = RNG.dirichlet([1.0, 1.0, 1.0], 900)
    changes = adjustment.gains(labels, probabilities, np.array([0.6, 0.3, 0.1]), specimens)
    assert changes.mean() < 0.01


def test_the_command_has_a_row_for_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "optics.via_px=null"]
    run = run_of_squares(tmp_path, *small, "adapt.updates=5", "adapt.min_epochs=0", "flag_limit=4")
    monkeypatch.setattr(sys, "argv", ["adjustment.py", str(run.parent)])
    adjustment.main()
    shown = capsys.readouterr().out
    assert "| cnn | folder | 4 | 0 | " in shown
    assert "| one specimen |" in shown, "its validation cells are of one"
    monkeypatch.setattr(sys, "argv", ["adjustment.py", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="error"):
        adjustment.main()
