"""Classes of few cells: the loss, the batches, and the prior that a run states."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import config_of
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.special import expit, log_softmax, ndtri
from stored import read_predictions, read_record, replace_record
from torch import nn
from torch.nn.functional import cross_entropy

from cellpatch.config.assemble import assemble
from cellpatch.data.batch_indices import IGNORE_INDEX, BalancedIndices
from cellpatch.inference.export import export
from cellpatch.inference.restore import restore
from cellpatch.metrics.prior import class_prior
from cellpatch.runs.identity import identity
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.verify import verify
from cellpatch.sweeps.train import train
from cellpatch.training.objective import Objective, ObjectiveLoss, shares_of

FolderMaker = Callable[..., Path]
PLAIN: dict[str, Any] = {"label_smoothing": 0.0, "balance": "none", "adjust_tau": 1.0, "focal_gamma": 0.0}
PLAIN |= {"mixup": 0.0, "cutmix": 0.0}
SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "model.recipe.lr=0.01"]
SMALL += ["adapt.batch_size=8", "trainer.max_epochs=2"]
COUNTS = [7, 2, 1]


def _oracle(logits: np.ndarray, shares: np.ndarray, objective: Objective, counts: list[int], smoothing: float) -> float:
    """The mean loss in 64 bits, cell by cell and class by class."""
    n, classes = logits.shape
    prior = np.array(counts) / sum(counts)
    weights = 1 / (classes * prior) if objective.balance == "class_weights" else np.ones(classes)
    total = weight = 0.0
    for i in range(n):
        row = logits[i] + (objective.adjust_tau * np.log(prior) if objective.balance == "adjusted_loss" else 0)
        log_p = log_softmax(row)
        for c in range(classes):
            target = shares[i, c] * (1 - smoothing) + smoothing / classes * shares[i].sum()
            total -= target * weights[c] * (1 - np.exp(log_p[c])) ** objective.focal_gamma * log_p[c]
            weight += shares[i, c] * weights[c]
    return total / weight


@pytest.mark.parametrize("balance", ["none", "class_weights", "adjusted_loss", "adjusted_logits"])
@pytest.mark.parametrize(("gamma", "smoothing"), [(0.0, 0.0), (0.0, 0.1), (0.5, 0.0), (2.0, 0.1)])
def test_the_loss_is_that_of_its_formula(balance: str, gamma: float, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    objective = Objective(**PLAIN | {"balance": balance, "focal_gamma": gamma, "adjust_tau": 0.7})
    loss = ObjectiveLoss(objective, COUNTS)
    logits, labels = rng.normal(size=(20, 3)) * 3, rng.integers(0, 3, 20)
    one_hot, mixed = np.eye(3)[labels], rng.dirichlet(np.ones(3), 20)
    found = loss(torch.tensor(logits).float(), torch.tensor(labels), smoothing)
    assert float(found) == pytest.approx(_oracle(logits, one_hot, objective, COUNTS, smoothing), rel=1e-5)
    soft = loss(torch.tensor(logits).float(), torch.tensor(mixed).float(), smoothing)
    assert float(soft) == pytest.approx(_oracle(logits, mixed, objective, COUNTS, smoothing), rel=1e-5)


def test_focal_loss_is_that_of_the_paper_and_counts_learnt_cells_less() -> None:
    """Two logits 0 and x are a sigmoid: FL = -(1 - p)^2 log p; at p = 0.9 it is 100 times less than cross-entropy."""
    logits = torch.tensor([[0.0, np.log(9.0)]])
    loss, label = ObjectiveLoss(Objective(**PLAIN | {"focal_gamma": 2.0}), [1, 1]), torch.tensor([1])
    assert float(loss(logits, label, 0.0)) == pytest.approx(-(0.1**2) * np.log(0.9), rel=1e-5)
    assert float(cross_entropy(logits, label)) == pytest.approx(100 * float(loss(logits, label, 0.0)), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradients_are_finite_where_a_cell_is_learnt_to_the_last_bit(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    ObjectiveLoss(Objective(**PLAIN | {"focal_gamma": gamma}), [1, 1])(logits, torch.tensor([0, 0]), 0.0).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("balance", ["none", "class_weights", "adjusted_loss"])
@pytest.mark.parametrize(("gamma", "soft"), [(0.0, False), (2.0, False), (0.0, True)])
def test_shares_of_processes_add_up_to_the_loss_of_the_batch(balance: str, gamma: float, soft: bool) -> None:
    loss = ObjectiveLoss(Objective(**PLAIN | {"balance": balance, "focal_gamma": gamma}), COUNTS)
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 3), torch.randint(0, 3, (9,))
    targets = torch.rand(9, 3).softmax(1) if soft else labels
    whole = loss(logits, targets, 0.1)
    parts = [(logits[rank::2], targets[rank::2]) for rank in (0, 1)]
    filler = torch.full((1,), IGNORE_INDEX)
    parts.append((logits[:1], shares_of(filler, 3) if soft else filler))
    total = sum(loss(*part, 0.1, "sum") for part in parts)
    torch.testing.assert_close(total / sum(loss.weight(part[1]) for part in parts), whole)


def _gaussian_cells(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantiles of N(-1, 1) and N(1, 1): the log odds of the second class are 2x + log(prior ratio)."""
    x = np.concatenate([mean + ndtri((np.arange(n) + 0.5) / n) for mean, n in zip((-1, 1), counts, strict=True)])
    return torch.from_numpy(x)[:, None].float(), torch.repeat_interleave(torch.arange(2), torch.tensor(counts))


def _fit(x: torch.Tensor, labels: torch.Tensor, loss: ObjectiveLoss) -> nn.Linear:
    head = nn.Linear(1, 2)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(head(x), labels, 0.0)
        value.backward()
        return value

    optimiser.step(closure)
    return head


@pytest.mark.parametrize(
    ("balance", "tau", "boundary"),
    [  # of equal posteriors: 2x = -log(ratio of the presumed prior)
        ("none", 1.0, np.log(19) / 2),
        ("class_weights", 1.0, 0.0),
        ("sampling", 1.0, 0.0),
        ("adjusted_loss", 1.0, 0.0),
        ("adjusted_logits", 1.0, 0.0),
        ("adjusted_loss", 0.5, np.log(19) / 4),
        ("adjusted_logits", 0.5, np.log(19) / 4),
    ],
)
def test_the_decision_is_bayes_optimal_for_the_stated_prior(balance: str, tau: float, boundary: float) -> None:
    """Two Gaussians, 19 cells of one for each of the other: the balanced decision is at 0, halfway between them."""
    counts = [9500, 500]
    objective = Objective(**PLAIN | {"balance": balance, "adjust_tau": tau})
    x, labels = _gaussian_cells(counts)
    loss = ObjectiveLoss(objective, counts)
    if balance == "sampling":
        drawn = np.concatenate(list(BalancedIndices(labels.numpy(), 1000, seed=0, round_batches=19)))
        x, labels = x[drawn], labels[drawn]
    head = _fit(x, labels, loss)
    loss.fold_into(head)
    slope, intercept = (
        float(each.detach().flatten()[1] - each.detach().flatten()[0]) for each in (head.weight, head.bias)
    )
    assert slope == pytest.approx(2, abs=0.03)
    assert -intercept / slope == pytest.approx(boundary, abs=0.02)
    prior = objective.prior(counts)
    ratio = np.log(prior.presumed[1] / prior.presumed[0])
    at = torch.linspace(-3, 3, 61)[:, None]
    probabilities = head(at).softmax(1)[:, 1].detach().numpy()
    np.testing.assert_allclose(probabilities, expit(2 * at[:, 0].numpy() + ratio), atol=0.01)


def test_priors_have_names() -> None:
    named = [class_prior([30, 10], by) for by in (0.0, 1.0, 0.5)]
    assert [prior.name for prior in named] == ["training", "uniform", "between"]
    assert named[0].presumed == named[0].training == [0.75, 0.25]
    assert named[1].presumed == [0.5, 0.5]
    np.testing.assert_allclose(named[2].presumed, np.sqrt([3, 1]) / np.sqrt([3, 1]).sum())
    assert Objective(**PLAIN | {"adjust_tau": 0.5}).prior([3, 1]).name == "training", "nothing is adjusted"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 12), st.integers(1, 9), st.integers(1, 5))
def test_balanced_batches_draw_each_class_equally_often(
    counts: list[int], size: int, per_round: int, rounds: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    batches = _rounds(labels, size, per_round, rounds)
    assert {len(batch) for each in batches for batch in each} == {min(size, len(labels))}
    for each in batches:  # whatever the round begins with, no class is drawn twice more often than another
        drawn = np.bincount(labels[np.concatenate(each)], minlength=len(counts))
        assert drawn.max() - drawn.min() <= 1
    stream = np.concatenate([batch for each in batches for batch in each])
    for code, count in enumerate(counts):
        times = np.bincount(stream[labels[stream] == code], minlength=len(labels))[labels == code]
        assert times.max() - times.min() <= 1, "no cell comes again before all of its class came"
        assert times.sum() == 0 or times.max() == -(-times.sum() // count)
    whole = [batch for each in _rounds(labels, size, 1, per_round * rounds) for batch in each]
    again = [batch for each in batches for batch in each]
    assert all(np.array_equal(one, other) for one, other in zip(whole, again, strict=True)), "rounds cut one stream"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 12), st.integers(2, 4))
def test_processes_share_balanced_batches(counts: list[int], size: int, world: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    whole = _rounds(labels, size, 4, 2)
    shares = [_rounds(labels, size, 4, 2, rank, world) for rank in range(world)]
    for number, batches in enumerate(whole):
        for index, batch in enumerate(batches):
            counted = [cell for share in shares for cell in share[number][index].tolist() if cell >= 0]
            assert sorted(counted) == sorted(batch.tolist())


def test_balanced_batches_follow_the_seed_and_are_shuffled() -> None:
    labels = np.repeat([0, 1], [40, 10])
    first, same, other = (np.concatenate(list(BalancedIndices(labels, 10, seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert len(set(first[labels[first] == 0])) == 25, "half of 50 draws, of 40 cells"
    assert not np.array_equal(labels[first], np.arange(50) % 2), "processes and pairs do not meet one class alone"


def _rounds(
    labels: np.ndarray, size: int, per_round: int, rounds: int, rank: int = 0, world: int = 1
) -> list[list[np.ndarray]]:
    found = []
    for number in range(rounds):  # each resumed in a sampler of its own
        sampler = BalancedIndices(labels, size, 3, rank, world, per_round)
        sampler.set_epoch(number)
        found.append(list(sampler))
    return found


@pytest.fixture
def few_red(folder_of_squares: FolderMaker) -> Path:
    """Classes blue, green and red of 30, 30 and 10 cells."""
    root = folder_of_squares(30, 5)
    for file in sorted((root / "red").rglob("*.png"))[::3] + sorted((root / "red").rglob("*.png"))[1::3]:
        file.unlink()
    return root


def _train(tmp_path: Path, root: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    run = tmp_path / "runs" / train(config_of(tmp_path, root, *SMALL, *overrides)).run
    return run, read_record(run)


@pytest.mark.long
def test_adjustment_after_training_is_folded_into_the_stored_head(tmp_path: Path, few_red: Path) -> None:
    one_epoch = "trainer.max_epochs=1"  # so that both keep the same validation
    (plain, record), (adjusted, stated) = (
        _train(tmp_path, few_red, one_epoch, f"adapt.balance={balance}") for balance in ("none", "adjusted_logits")
    )
    training = np.array([record["counts"]["train"][name] for name in record["classes"]])
    training = training / training.sum()
    assert record["prior"]["name"] == "training"
    assert stated["prior"]["name"] == "uniform"
    for prior in (record["prior"]["presumed"], record["prior"]["training"], stated["prior"]["training"]):
        np.testing.assert_allclose(prior, training)
    np.testing.assert_allclose(stated["prior"]["presumed"], 1 / 3)
    before, after = (load_file(run / "weights.safetensors") for run in (plain, adjusted))
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["head.bias"]
    np.testing.assert_allclose(after["head.bias"] - before["head.bias"], -np.log(training), atol=1e-6)
    crops = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits, folded = (restore(run).network(crops) for run in (plain, adjusted))
    torch.testing.assert_close(folded, logits - torch.from_numpy(training).log().float())
    _, raw = read_predictions(plain)
    odds = raw / training
    _, balanced = read_predictions(adjusted)
    np.testing.assert_allclose(balanced, odds / odds.sum(1, keepdims=True), atol=1e-5)
    assert "test cells: probabilities differ" in export(adjusted, tmp_path / "adjusted.onnx")


@pytest.mark.parametrize("balance", ["class_weights", "sampling", "adjusted_loss", "adjusted_logits"])
def test_a_run_states_its_prior_and_is_one_of_its_own(tmp_path: Path, few_red: Path, balance: str) -> None:
    (plain, _), (run, record) = (_train(tmp_path, few_red, f"adapt.balance={each}") for each in ("none", balance))
    assert run != plain
    assert (run / "weights.safetensors").read_bytes() != (plain / "weights.safetensors").read_bytes()
    prior = StoredRun.open(run).record.prior
    assert prior is not None
    assert prior.name == "uniform"
    assert record["updates"] == read_record(plain)["updates"], "balance changes no budget"
    assert verify(tmp_path / "runs") == []


@pytest.mark.long
def test_identities_are_those_of_before(tmp_path: Path, few_red: Path) -> None:
    """Runs that state `class_weights` are found, verified and restored; the settings that came later are not theirs."""

    def of(*overrides: str) -> str:
        return identity(assemble(config_of(tmp_path, few_red, *SMALL, *overrides)).settings, "data", None)

    assert of("adapt.adjust_tau=0.5") == of(), "it counts where logits are adjusted"
    balances = ("none", "class_weights", "sampling", "adjusted_loss", "adjusted_logits")
    more = ["adapt.balance=adjusted_loss", "adapt.adjust_tau=0.5"]
    assert len({*(of(f"adapt.balance={each}") for each in balances), of(*more)}) == 6
    run, record = _train(tmp_path, few_red, "adapt.balance=class_weights")
    adapt = record["config"]["adapt"]
    for name in ("balance", "adjust_tau", "focal_gamma", "mixup", "cutmix"):
        del adapt[name]
    for name in ("erasing", "scale"):
        del record["config"]["augment"][name]
    adapt["class_weights"] = "balanced"
    replace_record(run, {key: value for key, value in record.items() if key != "prior"})
    assert verify(run.parent) == []
    assert restore(run).stored.record.prior is None
    assert train(config_of(tmp_path, few_red, *SMALL, "adapt.balance=class_weights")).state == "exists"


@pytest.mark.parametrize(("name", "value"), [("adjust_tau", 0), ("focal_gamma", -1), ("mixup", -0.1), ("cutmix", -1)])
def test_values_out_of_range(tmp_path: Path, few_red: Path, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"adapt.{name} is out of its range: {value}"):
        assemble(config_of(tmp_path, few_red, *SMALL, f"adapt.{name}={value}"))
