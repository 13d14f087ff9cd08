"""Propose which unlabelled cells to label next, for a stored run."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cellpatch.data.store.digests import digest_of
from cellpatch.inference.choose_cells import STRATEGIES, UNCERTAIN, Candidates, choose_cells, rank_cells, take_spread
from cellpatch.inference.new_cells import PointOptions
from cellpatch.inference.partial import PartialPrediction
from cellpatch.inference.predict import read_crops
from cellpatch.inference.restore import RestoredRun, predict_features, predict_probabilities, restore
from cellpatch.inference.unlabelled_pool import Pool, describe, read_pool
from cellpatch.models.network import Network
from cellpatch.runs.stored_run import StoredRun, require_store
from cellpatch.runtime.device import inference_batch_size, resolve_device
from cellpatch.runtime.error_collector import ErrorCollector

log = logging.getLogger(__name__)
LABELLED, TWICE = "labelled already", "whose crop another proposed cell has too"


@dataclass(frozen=True, kw_only=True)
class NextOptions:
    """How cells are chosen, and how their sources are read; raises ValueError for n < 1 or an unknown strategy."""

    n: int = 200
    strategy: str = "random"
    seed: int = 0
    spread: bool = True
    specimen_pattern: str | None = None
    points: PointOptions = field(default_factory=PointOptions)
    weights_file: Path | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"--n must be >= 1, but got {self.n}")
        if self.seed < 0:
            raise ValueError(f"--seed must be >= 0, but got {self.seed}")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"--strategy must be one of {list(STRATEGIES)}, but got {self.strategy}")


@dataclass(frozen=True, eq=False)
class Proposal:
    """Cells to label, in the order of the choice: `rows` of the pool, and their probabilities.

    `left_out` counts the cells that could not be chosen.
    """

    pool: Pool
    rows: Int[np.ndarray, " k"]
    probabilities: Float[np.ndarray, "k classes"]
    classes: list[str]
    left_out: Counter[str]

    def __len__(self) -> int:
        return len(self.rows)


def propose(folder: Path, sources: Sequence[Path], options: NextOptions) -> Proposal:
    """The next cells to label, among those of the sources.

    Cells of the run's validation and test specimens are left out, and cells whose crop the run's store holds. Equal
    seeds propose equal cells. Raises ValueError as `read_pool` and `restore`, or if no cell is left.
    """
    run = StoredRun.open(folder)
    classify = options.strategy != "random"
    pool = read_pool(run, sources, options.points, options.weights_file, options.specimen_pattern, classify)
    restored = restore(folder, options.weights_file)
    restored.network.to(resolve_device("auto"))
    looked = _Looked(pool, restored, options.points, _labelled_digests(run))
    rng = np.random.default_rng(options.seed)
    rows = _choose(pool, looked, options, rng)
    left_out = pool.left_out + looked.left_out
    if not len(rows):
        raise ValueError(f"no cell is left to label: {describe(left_out)}")
    probabilities = pool.probabilities[rows] if pool.probabilities is not None else looked.probabilities(rows)
    return Proposal(pool, rows, probabilities, [str(name) for name in restored.classes], left_out)


def _choose(pool: Pool, looked: "_Looked", options: NextOptions, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    names, specimens = (pool.table[name].to_numpy(object) for name in ("name", "specimen"))
    cells = Candidates(names, specimens, pool.probabilities)
    if options.strategy != "diverse":
        ranking = rank_cells(cells, STRATEGIES[options.strategy], options.n, rng)
        return looked.first(ranking, lambda usable: take_spread(usable, specimens, options.n, options.spread))
    most = UNCERTAIN * options.n
    ranking = rank_cells(cells, STRATEGIES["margin"], most, rng)
    uncertain = looked.first(ranking, lambda usable: usable[:most])
    if not len(uncertain):
        return uncertain
    features = looked.features(uncertain)
    shortlist = Candidates(names[uncertain], specimens[uncertain], cells.take(uncertain).probabilities, features)
    return uncertain[choose_cells(shortlist, STRATEGIES["diverse"], options.n, rng, options.spread)]


def _labelled_digests(run: StoredRun) -> set[bytes]:
    """The digests of all cells of the run's store; empty, with a warning, if that is not on this machine."""
    try:
        return set(require_store(run.record).cells["digest"])
    except ValueError as error:
        log.warning("cells that are labelled already are not recognised and may be proposed again: %s", error)
        return set()


class _Looked:
    """Crops of the cells that may be proposed, cut when they are asked for: few of a pool are."""

    def __init__(self, pool: Pool, restored: RestoredRun, points: PointOptions, labelled: set[bytes]) -> None:
        self.pool, self.restored, self.points = pool, restored, points
        self.left_out: Counter[str] = Counter()
        self._taken = dict.fromkeys(labelled, -1)  # by digest: the row that has this crop, -1 for a labelled cell
        self._crops: dict[int, np.ndarray] = {}
        self._unusable = np.zeros(len(pool), bool)

    def first(
        self, ranking: Int[np.ndarray, " n"], take: Callable[[Int[np.ndarray, " m"]], Int[np.ndarray, " k"]]
    ) -> Int[np.ndarray, " k"]:
        """What `take` chooses of the ranking without cells that are labelled, are there twice or have no crop."""
        while True:
            usable = ranking[~self._unusable[ranking]]
            chosen = take(usable)
            new = [row for row in chosen.tolist() if row not in self._crops]
            if not new:
                return chosen
            ahead = [row for row in usable.tolist() if row not in self._crops][: int(self._unusable.sum())]
            self._look(np.array(list(dict.fromkeys(new + ahead)), np.int64))  # where most are labelled, ever more

    def _look(self, rows: Int[np.ndarray, " k"]) -> None:
        """Cut the crops of rows, and mark those that cannot be proposed; raises ValueError for images as `predict`."""
        problems = ErrorCollector()
        for source in range(len(self.pool.cells)):
            cells, of_source = self.pool.part(rows, source)
            so_far = PartialPrediction(None, "", len(cells), len(self.restored.classes))
            crops, _ = read_crops(cells, self.restored, self.points, so_far, problems)
            cut = {int(of_source[at]): crop for at, crop in crops}
            for row in of_source[list(so_far.left_out)].tolist():
                self._unusable[row] = True
            self.left_out.update(so_far.left_out.values())
            for row in [row for row in of_source.tolist() if row in cut]:  # in the order of the choice
                digest = digest_of(cut[row])
                holder = self._taken.setdefault(digest, row)
                self._unusable[row] = holder != row
                self.left_out.update([] if holder == row else [LABELLED if holder < 0 else TWICE])
                if holder == row:
                    self._crops[row] = cut[row]
        problems.raise_if_any()

    def probabilities(self, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k classes"]:
        return self._in_batches(predict_probabilities, rows)

    def features(self, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
        return self._in_batches(predict_features, rows)

    def _in_batches(
        self, work: Callable[[Network, np.ndarray], np.ndarray], rows: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, "k values"]:
        network = self.restored.network
        size = inference_batch_size(network.backbone.input_px, next(network.parameters()).device)
        parts = [rows[start : start + size].tolist() for start in range(0, len(rows), size)]
        return np.concatenate([work(network, np.stack([self._crops[row] for row in part])) for part in parts])
