"""The Python interface: `import cellpatch` offers what is public here."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from cellpatch.runs.record import Record
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.table import runs_table

if TYPE_CHECKING:
    from cellpatch.inference.restore import RestoredRun
    from cellpatch.models.network import Network


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Its network is restored at the first call of `predict` or `features`, on a GPU if there is one. That takes some
    seconds and raises ValueError if published weights are absent or others than the run's. `weights_file` is where
    these are, if they have moved since training.
    """

    folder: Path
    record: Record
    weights_file: Path | None = None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the probabilities."""
        return self.record.classes

    @property
    def metrics(self) -> pd.DataFrame:
        """Test scores: a row a condition (`kind`, `sigma`)."""
        rows = [
            {"kind": row.condition.kind, "sigma": row.condition.sigma} | asdict(row.scores)
            for row in self.record.metrics
        ]
        return pd.DataFrame(rows).drop(columns=["confusion", "reliability"])

    def predict(self, crops: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n classes"]:
        """Probabilities of crops: RGB, of the side, margin and scale that `record.data.geometry` states.

        Raises ValueError for crops of another side.
        """
        from cellpatch.inference.restore import predict_probabilities

        return self._in_batches(predict_probabilities, crops)

    def features(self, crops: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n features"]:
        """Features of crops, what the backbone gives to the head; raises ValueError for crops of another side."""
        from cellpatch.inference.restore import predict_features

        return self._in_batches(predict_features, crops)

    def _in_batches(self, work: Callable[["Network", np.ndarray], np.ndarray], crops: np.ndarray) -> np.ndarray:
        from cellpatch.runtime.device import inference_batch_size, resolve_device

        self._check(crops)
        device = resolve_device("auto")
        network = self._restored.network.to(device)
        size = inference_batch_size(network.backbone.input_px, device)
        # No crops are a batch too: its result has the right shape.
        return np.concatenate([work(network, crops[start : start + size]) for start in range(0, len(crops) or 1, size)])

    def _check(self, crops: np.ndarray) -> None:
        side = self._restored.geometry.side_px
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (side, side, 3):
            raise ValueError(f"crops must be uint8 [n, {side}, {side}, 3], but got {crops.dtype} {list(crops.shape)}")

    @cached_property
    def _restored(self) -> "RestoredRun":
        from cellpatch.inference.restore import restore

        return restore(self.folder, self.weights_file)


def load_run(folder: str | Path, weights_file: str | Path | None = None) -> Run:
    """The finished run in a folder; raises ValueError if it holds none, or a record that is not as it should be."""
    stored = StoredRun.open(Path(folder))
    return Run(stored.folder, stored.record, None if weights_file is None else Path(weights_file))


def read_runs(folder: str | Path = "runs") -> pd.DataFrame:
    """The finished runs of a folder: a row a run and condition, as `cellpatch runs` shows them.

    Raises ValueError if the folder does not exist or holds no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    table = runs_table(folder)
    if table.empty:
        raise ValueError(f"{folder}: has no finished run")
    return table


def train(overrides: Sequence[str] = ()) -> Run:
    """Train what `cellpatch train` would with these arguments, unless that run exists, and load it.

    Raises ValueError for an unknown key, a value out of its range, and data or weights that cannot be used.
    """
    from cellpatch.cli.overrides import prepare_overrides
    from cellpatch.config.schema import compose_config
    from cellpatch.sweeps.train import train as train_run

    config = compose_config(prepare_overrides(overrides))
    if config.dry_run:
        raise ValueError("dry_run must be false: this trains; cellpatch train dry_run=true lists what would be done")
    return load_run(Path(config.runs_dir) / train_run(config).run)
