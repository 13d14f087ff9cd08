"""Probes against scikit-learn on the same features."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize
from torch import Tensor
from torch.nn.functional import cross_entropy

from cellpatch.probing.heads import KNNHead
from cellpatch.probing.logistic import fit_logistic, principal_components, standardise
from cellpatch.probing.probes import KNNProbe, LinearProbe, Probe, ProbeChoice, Prototypes

Cells = tuple[Tensor, Tensor]


def _cells(n: int, d: int, k: int, seed: int, spread: float = 2.0) -> Cells:
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(k, d))
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    scale = np.random.default_rng(8).uniform(0.1, 5, d)
    x = (means[labels] + spread * rng.normal(size=(n, d))) * scale + 3
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), strength=st.sampled_from([1.0, 0.1, 1e-2, 1e-3]))
def test_logistic_regression_is_scikit_learns(seed: int, strength: float) -> None:
    x, labels = _cells(150, 12, 4, seed)
    z = torch.from_numpy(StandardScaler().fit_transform(x.double().numpy())).float()
    weight = fit_logistic(z, labels, torch.zeros(4, 13), strength)
    theirs = LogisticRegression(C=1 / (strength * len(labels)), max_iter=5000, tol=1e-8).fit(z.numpy(), labels.numpy())
    ours = (z @ weight[:, :-1].T + weight[:, -1]).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(z.numpy()), atol=3e-3)


def test_a_few_steps_suffice_whatever_the_features_spread() -> None:
    x, labels = _cells(600, 64, 5, 0, 4.0)
    x = (x - x.mean(0)) / x.std(0) * torch.logspace(-2, 1, 64)

    def loss(steps: int) -> float:
        weight = fit_logistic(x, labels, torch.zeros(5, 65), 1e-4, steps)
        penalty = 1e-4 / 2 * weight[:, :-1].square().sum()
        return float(cross_entropy(x @ weight[:, :-1].T + weight[:, -1], labels) + penalty)

    assert loss(20) - loss(1000) < 0.005


def test_linear_probe_is_scikit_learns_within_two_tenths_of_a_point() -> None:
    train, validation, test = (_cells(n, 64, 5, seed, 4.0) for n, seed in ((600, 0), (500, 1), (4000, 2)))
    strengths = [1.0, 0.1, 0.01, 1e-3]
    head, chosen = LinearProbe(l2_grid=strengths, path_steps=20, patience=4, augmented_copies=0).fit(
        train, validation, 5
    )
    scaler = StandardScaler().fit(train[0])
    theirs = {}
    for strength in strengths:
        model = LogisticRegression(C=1 / (strength * 600), max_iter=5000, tol=1e-6)
        theirs[strength] = model.fit(scaler.transform(train[0]), train[1])
    accuracy = float((head(test[0]).argmax(1) == test[1]).float().mean())
    assert chosen.strength is not None
    expected = theirs[chosen.strength].score(scaler.transform(test[0]), test[1])
    assert abs(accuracy - expected) <= 0.002
    assert 0.5 < expected < 0.95
    assert chosen.tried[str(chosen.strength)] == max(chosen.tried.values())
    predicted = head(validation[0]).argmax(1)
    assert chosen.val_macro_f1 == f1_score(validation[1], predicted, average="macro"), "of the head that is kept"


def test_strength_is_chosen_on_validation_and_the_path_ends_early() -> None:
    train, validation = _cells(60, 200, 3, 0, 6.0), _cells(400, 200, 3, 1, 6.0)
    strengths = [100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5]
    _, whole = LinearProbe(l2_grid=strengths, path_steps=20, patience=99, augmented_copies=0).fit(train, validation, 3)
    _, short = LinearProbe(l2_grid=strengths[::-1], path_steps=20, patience=2, augmented_copies=0).fit(
        train, validation, 3
    )
    assert len(whole.tried) == len(strengths)
    assert len(short.tried) < len(strengths)
    assert list(short.tried) == list(whole.tried)[: len(short.tried)]
    assert whole.tried[str(whole.strength)] == max(whole.tried.values())


def test_a_rare_class_does_not_end_the_path_before_it_began() -> None:
    settings: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "adapt" / "linear_probe.yaml"))
    probe = LinearProbe(**{key: value for key, value in settings.items() if key not in ("name", "_target_")})

    def unbalanced(seed: int) -> Cells:
        x, labels = _cells(4000, 100, 2, seed, 4.0)
        kept = (labels == 0) | (torch.arange(len(labels)) % 10 == 0)
        return x[kept], labels[kept]

    _, chosen = probe.fit(unbalanced(0), unbalanced(1), 2)
    _, whole = LinearProbe(l2_grid=probe.l2_grid, path_steps=20, patience=99, augmented_copies=0).fit(
        unbalanced(0), unbalanced(1), 2
    )
    assert whole.tried["100.0"] < 0.6 < max(whole.tried.values())
    assert chosen.val_macro_f1 == whole.val_macro_f1


def _few(n: int, seed: int) -> torch.Tensor:
    """Cells of few kinds, most features constant: in 32 bits eigenvectors of some of these do not converge."""
    x = (torch.randn(8, 1280, generator=torch.Generator().manual_seed(seed)) > 1.2).float()
    x[:, :100] = 0
    return standardise(x.repeat(n // 8, 1))[0]


@pytest.mark.parametrize("n", [8, 1600])
def test_principal_axes_of_few_kinds_of_cells(n: int) -> None:
    for seed in range(12 if n == 8 else 2):
        x = _few(n, seed)
        along, axes = principal_components(x)
        assert along.shape == (n, min(n, 1280))
        np.testing.assert_allclose(along @ axes.T, x, atol=1e-4)
        np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-4)
        products = along.T @ along
        np.testing.assert_allclose(products - products.diag().diag(), 0, atol=1e-5 * n * 1280)


def test_a_probe_of_fewer_cells_than_features_is_scikit_learns() -> None:
    (x, labels), (others, _) = _cells(40, 300, 3, seed=1), _cells(200, 300, 3, seed=2)
    head, _ = LinearProbe(l2_grid=[0.1], path_steps=10, patience=3, augmented_copies=0).fit((x, labels), (x, labels), 3)
    x_, mean, std = standardise(x)
    expected = LogisticRegression(C=1 / (0.1 * len(x)), tol=1e-8, max_iter=10000).fit(x_.numpy(), labels.numpy())
    with torch.no_grad():
        found = head(others).softmax(dim=1)
    np.testing.assert_allclose(found, expected.predict_proba(((others - mean) / std).numpy()), atol=2e-3)


def test_a_constant_feature_does_no_harm() -> None:
    x, labels = _cells(100, 6, 3, 0, 0.5)
    x[:, 2] = 4.0
    head, _ = LinearProbe(l2_grid=[0.1], path_steps=20, patience=1, augmented_copies=0).fit((x, labels), (x, labels), 3)
    assert torch.isfinite(head(x)).all()
    assert (head(x).argmax(1) == labels).float().mean() > 0.9


def test_neighbours_are_scikit_learns() -> None:
    train, validation, test = (_cells(n, 10, 3, seed) for n, seed in ((200, 0), (100, 1), (300, 2)))
    head, chosen = KNNProbe(ks=[7], temperature=0.1, augmented_copies=0).fit(train, validation, 3)
    theirs = KNeighborsClassifier(7, metric="euclidean", weights=lambda d: np.exp((1 - d**2 / 2) / 0.1))
    theirs.fit(normalize(train[0].numpy()), train[1].numpy())  # on the sphere, cosine is 1 - distance^2 / 2
    expected = theirs.predict_proba(normalize(test[0].numpy()))
    np.testing.assert_allclose(head(test[0]).softmax(1).numpy(), expected, atol=1e-3)
    assert chosen.k == 7


def test_k_is_chosen_among_what_there_is() -> None:
    train, validation = _cells(30, 10, 3, 0), _cells(100, 10, 3, 1)
    _, chosen = KNNProbe(ks=[1, 5, 1000], temperature=0.07, augmented_copies=0).fit(train, validation, 3)
    assert set(chosen.tried) == {"1", "5", "30"}


def test_prototypes_are_the_nearest_centroid_of_directions() -> None:
    train, validation, test = (_cells(n, 10, 3, seed) for n, seed in ((200, 0), (100, 1), (300, 2)))
    head, chosen = Prototypes(temperatures=[0.01, 0.1, 1.0], augmented_copies=0).fit(train, validation, 3)
    directions = normalize(train[0].numpy())
    centroid = NearestCentroid().fit(directions, train[1].numpy())
    nearest = normalize(test[0].numpy()) @ normalize(centroid.centroids_).T
    np.testing.assert_array_equal(head(test[0]).argmax(1).numpy(), nearest.argmax(1))
    losses = {
        t: float(torch.nn.functional.cross_entropy(head(validation[0]) * chosen.temperature / t, validation[1]))
        for t in (0.01, 0.1, 1.0)
    }
    assert chosen.temperature == min(losses, key=lambda t: losses[t])


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (LinearProbe, {"l2_grid": [], "path_steps": 20, "patience": 1}),
        (LinearProbe, {"l2_grid": [0.0], "path_steps": 20, "patience": 1}),
        (LinearProbe, {"l2_grid": [1.0], "path_steps": 20, "patience": 0}),
        (LinearProbe, {"l2_grid": [1.0], "path_steps": 0, "patience": 1}),
        (KNNProbe, {"ks": [0], "temperature": 0.1}),
        (KNNProbe, {"ks": [1], "temperature": 0.0}),
        (Prototypes, {"temperatures": []}),
        (Prototypes, {"temperatures": [0.1], "augmented_copies": -1}),
    ],
)
def test_bad_settings(kind: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="adapt.(l2_grid|ks|temperatures) must be"):
        kind(**{"augmented_copies": 0, **setting})


@pytest.mark.parametrize(
    "probe",
    [
        LinearProbe(l2_grid=[0.1], path_steps=20, patience=1, augmented_copies=0),
        KNNProbe(ks=[3], temperature=0.07, augmented_copies=0),
        Prototypes(temperatures=[0.1], augmented_copies=0),
    ],
)
def test_a_head_is_made_again_of_what_is_stored(probe: Any) -> None:
    train, validation = _cells(50, 8, 3, 0), _cells(50, 8, 3, 1)
    head, chosen = probe.fit(train, validation, 3)
    again = probe.head(dict(head.state_dict()), ProbeChoice.from_json(chosen.as_json()), 3)
    torch.testing.assert_close(again(validation[0]), head(validation[0]))


def test_a_vote_is_exported_for_any_number_of_cells() -> None:
    x, labels = torch.rand(12, 5), torch.arange(12) % 3
    head = KNNHead(x, labels, 3, 4, 0.1).eval()
    program = torch.export.export(head, (torch.rand(2, 5),), dynamic_shapes={"x": {0: torch.export.Dim("cells")}})
    new = torch.rand(7, 5)
    torch.testing.assert_close(program.module()(new), head(new))


def test_a_choice_is_stored_under_the_keys_of_a_record() -> None:
    choice = ProbeChoice(strength=0.1, val_macro_f1=0.5, tried={"0.1": 0.5})
    assert choice.as_json() == {"strength": 0.1, "val_macro_f1": 0.5, "tried": {"0.1": 0.5}}
    assert ProbeChoice.from_json(choice.as_json()) == choice
    assert ProbeChoice.from_json({"k": 5, "val_macro_f1": 1}) == ProbeChoice(k=5, val_macro_f1=1)
    bad: list[tuple[dict[str, Any], str]] = [({"k": 5}, "val_macro_f1"), ({"k": "5", "val_macro_f1": 0.5}, "k")]
    for stored, message in bad:
        with pytest.raises(ValueError, match=rf"probe: .*\n{message}\n"):
            ProbeChoice.from_json(stored)


def _cells_on_a_circle(counts: list[int]) -> Cells:
    """Two classes whose angles are Gaussian, at -0.5 and 0.5: at angle 0 both densities are equal."""
    angles = [mean + 0.5 * ndtri((np.arange(n) + 0.5) / n) for mean, n in zip((-0.5, 0.5), counts, strict=True)]
    angle = np.concatenate(angles)
    x = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1)).float()
    return x, torch.repeat_interleave(torch.arange(2), torch.tensor(counts))


PROBES = {
    "training": [
        LinearProbe(l2_grid=[1e-4], path_steps=100, patience=3, augmented_copies=0),
        KNNProbe(ks=[100], temperature=1.0, augmented_copies=0),
    ],
    "uniform": [Prototypes(temperatures=[0.2], augmented_copies=0)],
}


@pytest.mark.parametrize(
    ("name", "probe"), [(name, probe) for name, probes in PROBES.items() for probe in probes], ids=str
)
def test_a_probe_states_the_prior_that_its_probabilities_presume(name: str, probe: Probe) -> None:
    """Bayes: where both classes' densities are equal, the probabilities are the prior."""
    counts = [1800, 200]
    cells = _cells_on_a_circle(counts)
    head = probe.fit(cells, cells, 2).head
    prior = probe.prior(counts)
    assert prior.name == name
    assert prior.training == [0.9, 0.1]
    with torch.no_grad():
        probabilities = head(torch.tensor([[1.0, 0.0]])).softmax(1)[0].numpy()
    np.testing.assert_allclose(probabilities, prior.presumed, atol=0.02)


def test_the_linear_probe_keeps_class_frequencies_and_prototypes_forget_them() -> None:
    x, labels = cells = _cells(400, 12, 4, 0)
    linear, knn = PROBES["training"]
    with torch.no_grad():
        mean = linear.fit(cells, cells, 4).head(x).softmax(1).mean(0)
        np.testing.assert_allclose(mean, np.bincount(labels) / len(labels), atol=1e-3)
        more = torch.cat([torch.arange(len(x)), *([torch.nonzero(labels == 0)[:, 0]] * 5)])
        for probe, same in ((PROBES["uniform"][0], True), (knn, False), (linear, False)):
            heads = [probe.fit(train, cells, 4).head for train in (cells, (x[more], labels[more]))]
            before, after = (head(x).softmax(1) for head in heads)
            assert torch.allclose(before, after, atol=1e-5) == same
