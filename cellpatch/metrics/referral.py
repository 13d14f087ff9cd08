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


def kept_counts(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    specimens: Int[np.ndarray, " n"],
    n_specimens: int,
) -> Int[np.ndarray, "specimens 2 steps"]:
    """Cells of each specimen that are kept at each step, and right ones among them.

    At step s, s / STEPS of all cells are sent, the least sure first.
    """
    n = len(labels)
    order = _surest_first(probabilities)
    kept = np.array([round((1 - step / STEPS) * n) for step in range(STEPS)] + [0])
    last = np.repeat(np.arange(STEPS), kept[:-1] - kept[1:])[::-1]  # step at which each cell is kept, the surest first
    right = (probabilities.argmax(axis=1) == labels)[order]
    place = specimens[order] * STEPS + last
    counts = [np.bincount(each, minlength=n_specimens * STEPS) for each in (place, place[right])]
    by_last = np.stack(counts).reshape(2, n_specimens, STEPS).swapaxes(0, 1)
    return by_last[..., ::-1].cumsum(axis=-1)[..., ::-1]


def risk_area(counts: Float[np.ndarray, "*draws 2 steps"] | Int[np.ndarray, "*draws 2 steps"]) -> np.ndarray:
    """The share of errors among the cells that are kept, as a mean over all shares that may be sent; in [0, 1].

    `counts` are those of `kept_counts`. It is the area under the risk-coverage curve (Geifman, Uziel and El-Yaniv,
    arXiv 1805.08206) over STEPS steps.
    """
    return np.asarray(1 - _right_of_kept(counts).mean(axis=-1))


@dataclass(frozen=True)
class ShareToSend:
    """The smallest share of cells to send so that at least `accuracy` of the kept ones are right; 1 if none is."""

    accuracy: float

    def __call__(
        self, counts: Float[np.ndarray, "*draws 2 steps"] | Int[np.ndarray, "*draws 2 steps"]
    ) -> Float[np.ndarray, "*draws"]:
        """The share of each draw, in [0, 1], of counts as those of `kept_counts`."""
        enough = _right_of_kept(counts) >= self.accuracy
        cells = counts[..., 0, :]
        first = enough.argmax(axis=-1)
        kept = np.where(enough.any(axis=-1), np.take_along_axis(cells, first[..., None], axis=-1)[..., 0], 0)
        return np.asarray((cells[..., 0] - kept) / cells[..., 0])


def _surest_first(probabilities: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
    return np.argsort(-probabilities.max(axis=1), kind="stable")


def _right_of_kept(counts: np.ndarray) -> Float[np.ndarray, "*draws steps"]:
    """The share of right cells among those that are kept at a step; 1 where none is."""
    cells, right = (counts[..., which, :].astype(np.float64) for which in (0, 1))
    return np.divide(right, cells, out=np.ones_like(cells), where=cells > 0)
