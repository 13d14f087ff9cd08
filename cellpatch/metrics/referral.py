"""Send the least sure cells to a human: scores of the rest (selective classification)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

STEPS = 100  # of the share that is sent: 0, 0.01, ... 0.99


def kept_cells(probabilities: Float[np.ndarray, "n classes"], share: float) -> Bool[np.ndarray, " n"]:
    """Which cells stay if a share in [0, 1) of the least sure ones is sent away, one at least.

    Confidence is the highest probability (Geifman and El-Yaniv, arXiv 1705.08500). Ties keep the order of the cells, as
    in `selective_accuracy`.
    """
    n = len(probabilities)
    kept = np.zeros(n, bool)
    kept[_surest_first(probabilities)[: max(1, round((1 - share) * n))]] = True
    return kept


def step_counts(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    specimens: Int[np.ndarray, " n"],
    n_specimens: int,
) -> Int[np.ndarray, "specimens steps 2"]:
    """Cells and right ones of each specimen by the step at which they are sent, the least sure first.

    A step is one STEPS-th of all cells.
    """
    n = len(labels)
    order = _surest_first(probabilities)[::-1]
    kept = np.array([round((1 - step / STEPS) * n) for step in range(STEPS)] + [0])
    step = np.repeat(np.arange(STEPS), kept[:-1] - kept[1:])
    counts = np.zeros((n_specimens, STEPS, 2), np.int64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.int64)
    np.add.at(counts, (specimens[order], step), np.stack([np.ones(n, np.int64), right[order]], axis=1))
    return counts


def risk_area(counts: Float[np.ndarray, "*draws steps 2"] | Int[np.ndarray, "*draws steps 2"]) -> np.ndarray:
    """The share of errors among the cells that are kept, as a mean over all shares that may be sent; in [0, 1].

    It is the area under the risk-coverage curve (Geifman, Uziel and El-Yaniv, arXiv 1805.08206) over STEPS steps.
    """
    return np.asarray(1 - _right_of_kept(counts).mean(axis=-1))


@dataclass(frozen=True)
class ShareToSend:
    """The smallest share of cells to send so that at least `accuracy` of the kept ones are right; 1 if none is."""

    accuracy: float

    def __call__(
        self, counts: Float[np.ndarray, "*draws steps 2"] | Int[np.ndarray, "*draws steps 2"]
    ) -> Float[np.ndarray, "*draws"]:
        """The share of each draw, in [0, 1], of counts as those of `step_counts`."""
        enough = _right_of_kept(counts) >= self.accuracy
        first = np.where(enough.any(axis=-1), enough.argmax(axis=-1), STEPS)
        sent = np.concatenate([np.zeros((*counts.shape[:-2], 1)), counts[..., 0].cumsum(axis=-1)], axis=-1)
        shares = sent / sent[..., -1:]
        return np.take_along_axis(shares, first[..., None], axis=-1)[..., 0]


def _surest_first(probabilities: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
    return np.argsort(-probabilities.max(axis=1), kind="stable")


def _right_of_kept(counts: np.ndarray) -> Float[np.ndarray, "*draws steps"]:
    """The share of right cells among those that are sent at a step or later; 1 where none is left."""
    cells, right = np.moveaxis(counts[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :], -1, 0).astype(np.float64)
    return np.divide(right, cells, out=np.ones_like(cells), where=cells > 0)
