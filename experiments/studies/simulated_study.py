"""Studies whose true scores are known: confusion matrices of specimens, drawn with known skills.

Specimens differ in how hard they are (normal on the logit, sd 0.7); a model has its own quirks on each class of each
specimen (sd 0.4), a seed on each class (sd 0.15). These spreads are our choice. The truth is over all specimens and
seeds there are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cellpatch.analysis.bootstrap import bootstrap_weights, leave_one_out, weighted_counts
from cellpatch.analysis.estimates import Estimate
from cellpatch.metrics.scores import Score, class_counts

HARDNESS, QUIRKS, OF_SEEDS = 0.7, 0.4, 0.15  # standard deviations on the logit

Skill = Float[np.ndarray, "*models classes"]
Confusions = Int[np.ndarray, "models seeds specimens classes classes"]


@dataclass(frozen=True)
class Design:
    """What is tested, and how models err.

    `true` draws the cells of each specimen and class, `share` is that of each class in the population, `skill` a
    model's recall of each class on the logit, `errors` the class of a wrong answer, by rows that add up to 1.
    """

    name: str
    true: Callable[[np.random.Generator], Int[np.ndarray, "specimens classes"]]
    share: Float[np.ndarray, " classes"]
    skill: Float[np.ndarray, " classes"]
    errors: Float[np.ndarray, "classes classes"]


_MIX = np.array([4, 2, 1, 0.7])


def even_errors(classes: int) -> Float[np.ndarray, "classes classes"]:
    """Every wrong class is as likely as any other."""
    return (1 - np.eye(classes)) / (classes - 1)


def mixed_design(specimens: int) -> Design:
    """Four classes in nearly every specimen, in shares that differ from specimen to specimen."""

    def true(rng: np.random.Generator) -> Int[np.ndarray, "specimens classes"]:
        sizes = rng.lognormal(4, 0.6, specimens).astype(int) + 5
        return np.asarray(rng.multinomial(sizes, rng.dirichlet(_MIX, specimens)))

    return Design(f"{specimens}", true, _MIX / _MIX.sum(), np.array([2.0, 1.5, 1.0, 0.5]), even_errors(4))


def rare_design(specimens: int, present: int, uneven: bool = False) -> Design:
    """As `mixed_design`, but the fourth class lies in `present` specimens and takes 1 % of the other classes' errors.

    With `uneven` specimens differ more in size.
    """
    shares = np.array([4, 2, 1])
    cells = 12.0  # of the rare class in a specimen that has it

    def true(rng: np.random.Generator) -> Int[np.ndarray, "specimens classes"]:
        sizes = rng.lognormal(4, 1.2 if uneven else 0.6, specimens).astype(int) + 5
        common = rng.multinomial(sizes, rng.dirichlet(shares, specimens))
        rare = np.where(np.arange(specimens) < present, 3 + rng.poisson(cells - 3, specimens), 0)
        return np.concatenate([common, rare[:, None]], axis=1)

    size = np.exp(4 + (1.2 if uneven else 0.6) ** 2 / 2) + 5
    share = np.append(shares / 7 * size * specimens, cells * present)
    errors = np.full((4, 4), 0.495)
    errors[:3, 3], errors[3] = 0.01, 1 / 3
    np.fill_diagonal(errors, 0)
    name = f"{specimens}, a class in {present}{', uneven sizes' if uneven else ''}"
    return Design(name, true, share / share.sum(), np.array([2.0, 1.5, 1.0, 0.5]), errors)


def design_of(name: str, confusions: Int[np.ndarray, "specimens classes classes"]) -> Design:
    """Specimens like those of a run, with its recalls and errors; classes without a test cell are left out.

    A study draws as many of its specimens, with repetition, so that every class lies in one at least.
    """
    tested = np.flatnonzero(confusions.sum(axis=(0, 2)))
    confusions = confusions[:, tested][:, :, tested]
    true, whole = confusions.sum(axis=2), confusions.sum(axis=0).astype(np.float64)
    recall = (np.diagonal(whole) + 0.5) / (whole.sum(axis=1) + 1)
    errors = (whole + 0.5 / len(tested)) * (1 - np.eye(len(tested)))  # a little of every error

    def draw(rng: np.random.Generator) -> Int[np.ndarray, "specimens classes"]:
        while True:
            drawn = true[rng.integers(len(true), size=len(true))]
            if (drawn.sum(axis=0) > 0).all():
                return np.asarray(drawn)

    return Design(
        name,
        draw,
        true.sum(axis=0) / true.sum(),
        np.log(recall / (1 - recall)),
        errors / errors.sum(axis=1, keepdims=True),
    )


def simulate(rng: np.random.Generator, design: Design, skill: Float[np.ndarray, "models seeds classes"]) -> Confusions:
    """The confusion matrices of one study: models and seeds on the same specimens."""
    return answers(rng, design, skill[:, None])[:, 0]


def answers(
    rng: np.random.Generator, design: Design, skill: Float[np.ndarray, "models conditions seeds classes"]
) -> Int[np.ndarray, "models conditions seeds specimens classes classes"]:
    """As `simulate`, of several conditions (limits, sigmas), where specimens and quirks stay the same."""
    n = design.true(rng)
    hardness = rng.normal(0, HARDNESS, (len(n), 1))
    place = hardness + rng.normal(0, QUIRKS, (len(skill), 1, 1, *n.shape))
    logit = place + skill[..., None, :]
    right = rng.binomial(n, 1 / (1 + np.exp(-logit)))
    counts = rng.multinomial(n - right, design.errors)
    diagonal = np.arange(n.shape[1])
    counts[..., diagonal, diagonal] += right
    return np.asarray(counts)


def truth(design: Design, skill: Skill, score: Score) -> Float[np.ndarray, "*models"]:
    """The score over all specimens there are, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    logit = skill[..., None] + np.hypot(HARDNESS, QUIRKS) * nodes
    recall = (weights / weights.sum() / (1 + np.exp(-logit))).sum(axis=-1)
    counts = ((1 - recall) * design.share)[..., None] * design.errors
    diagonal = np.arange(len(design.share))
    counts[..., diagonal, diagonal] += recall * design.share
    return score(class_counts(counts))


def mean_truth(design: Design, skill: Skill, score: Score, of_seeds: float = OF_SEEDS) -> Float[np.ndarray, "*models"]:
    """The mean of `truth` over all seeds there are."""
    noise = np.random.default_rng(0).normal(0, of_seeds, (5_000, len(design.share)))
    return np.asarray([truth(design, one + noise, score).mean() for one in np.atleast_2d(skill)])


def estimates(
    confusions: Int[np.ndarray, "models seeds specimens classes classes"], score: Score, draws: int, seed: int
) -> list[Estimate]:
    """The estimate of each model, on shared draws, as the analysis makes it; ValueError as `bootstrap_weights`."""
    counts = class_counts(confusions)
    weights, _ = bootstrap_weights(counts[0, 0, :, 1], draws, seed)
    drawn = [np.stack([score(weighted_counts(run, weights)) for run in model], axis=1) for model in counts]
    values, without = score(counts.sum(axis=2)), np.moveaxis(score(leave_one_out(counts)), -1, -2)
    seeds = tuple(range(confusions.shape[1]))
    return [Estimate(values[i], drawn[i], without[i], seeds, (0.0, 1.0)) for i in range(len(counts))]
