"""Which cells of a part make a batch: shuffled passes through the part, or each class equally often."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

IGNORE_INDEX = -100  # label of the filler cell that a process gets where a last, small batch leaves none for it


class BatchIndices(Sampler[Int[np.ndarray, " b"]]):
    """Arrays of positions in a part, `batch_size` at a time: one round of an endless stream of passes through the part.

    Each pass is shuffled again, equally for equal seeds; `seed` None keeps the order. A batch never mixes two passes:
    the last one of a pass may be smaller. A round has `round_batches` batches, None is one pass; it may begin and end
    within a pass. Every process of a distributed run draws the same order and takes its own share of each batch. Where
    that is empty, it takes the batch's first position p as -1 - p: a cell that does not count.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
        round_batches: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, but got {batch_size}")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.share = slice(rank, None, world_size)
        self.pass_batches = -(-n // batch_size)
        self.round_batches = self.pass_batches if round_batches is None else round_batches
        self.round = 0
        self._drawn = (-1, np.arange(n))  # a pass and its order

    def set_epoch(self, epoch: int) -> None:  # Lightning calls it before each round, its epoch
        self.round = epoch

    def __len__(self) -> int:
        return self.round_batches

    @property
    def first_of_round(self) -> int:
        """The number in the stream of the round's first batch."""
        return self.round * self.round_batches

    def __iter__(self) -> Iterator[Int[np.ndarray, " b"]]:
        for number in range(self.first_of_round, self.first_of_round + self.round_batches):
            batch = self._batch(number)
            share = batch[self.share]
            yield share if len(share) else -1 - batch[:1]

    def _batch(self, number: int) -> Int[np.ndarray, " b"]:
        """The cells of a batch of the stream, for all processes."""
        passes, index = divmod(number, self.pass_batches)
        if self.seed is not None and passes != self._drawn[0]:
            self._drawn = passes, np.random.default_rng([self.seed, passes]).permutation(self.n)
        return self._drawn[1][index * self.batch_size : (index + 1) * self.batch_size]


class BalancedIndices(BatchIndices):
    """As `BatchIndices`, with each class equally often: in any stretch of the stream, counts differ by one at most.

    The stream takes the classes in turn, and the cells of a class in passes of its own, each shuffled again: no cell
    comes again before all of its class came. A round has as many batches as without balance, all of the same size.
    torch's `WeightedRandomSampler` draws with replacement: by chance some cells of a rare class come often, others not.
    """

    def __init__(
        self,
        labels: Int[np.ndarray, " n"],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        round_batches: int | None = None,
    ) -> None:
        super().__init__(len(labels), batch_size, seed, rank, world_size, round_batches)
        self._size = min(batch_size, self.n)
        self._seed = seed
        self._cells = [np.flatnonzero(labels == code) for code in np.unique(labels)]
        self._orders = [(-1, cells) for cells in self._cells]  # of each class: a pass and its order

    def _batch(self, number: int) -> Int[np.ndarray, " b"]:
        drawn = np.arange(number * self._size, (number + 1) * self._size)
        turns, codes = divmod(drawn, len(self._cells))
        cells = np.concatenate([self._of_class(code, turns[codes == code]) for code in range(len(self._cells))])
        return np.random.default_rng([self._seed, number]).permutation(cells)  # processes share classes evenly

    def _of_class(self, code: int, turns: Int[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
        """The cells of a class at its turns of the stream."""
        parts = [np.empty(0, int)]
        passes, places = divmod(turns, len(self._cells[code]))
        for number in np.unique(passes).tolist():
            if number != self._orders[code][0]:
                rng = np.random.default_rng([self._seed, number, code])
                self._orders[code] = number, rng.permutation(self._cells[code])
            parts.append(self._orders[code][1][places[passes == number]])
        return np.concatenate(parts)


class NumberedBatches(Sampler[tuple[int, Int[np.ndarray, " b"]]]):
    """The batches of `indices`, each with its number in the stream: what is drawn by it differs between passes."""

    def __init__(self, indices: BatchIndices) -> None:
        self._indices = indices

    def set_epoch(self, epoch: int) -> None:  # as of BatchIndices
        self._indices.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[int, Int[np.ndarray, " b"]]]:
        return enumerate(self._indices, self._indices.first_of_round)
