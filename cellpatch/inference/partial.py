"""What a prediction has classified so far, on disk: a killed one resumes."""

import json
import logging
import shutil
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cellpatch.runtime.atomic_io import atomic_write

log = logging.getLogger(__name__)
_INTERVAL_S = 20.0  # of work that a killed prediction loses at most


class PartialPrediction:
    """Probabilities by row, written to a folder from time to time.

    `key` names everything that determines them; parts of another key are removed. `rows` and `probabilities` hold what
    is done, `left_out` the reasons of rows that have no crop.
    """

    def __init__(self, folder: Path | None, key: str, cells: int, classes: int) -> None:
        self.probabilities: Float[np.ndarray, "cells classes"] = np.full((cells, classes), np.nan, np.float32)
        self.done = np.zeros(cells, bool)
        self.left_out: dict[int, str] = {}
        self._folder, self._parts = folder, 0
        self._new_rows: list[int] = []
        self._new_left_out: dict[int, str] = {}
        self._written = time.monotonic()
        if folder is not None:
            self._resume(folder, key)

    def _resume(self, folder: Path, key: str) -> None:
        stated = folder / "key.txt"
        if folder.exists() and (not stated.exists() or stated.read_text(encoding="utf-8") != key):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(stated) as temporary:
            temporary.write_text(key, encoding="utf-8")
        for part in sorted(folder.glob("part-*.npz")):
            with np.load(part, allow_pickle=False) as arrays:
                self.probabilities[arrays["rows"]] = arrays["probabilities"]
                self.done[arrays["rows"]] = True
                left_out = {int(row): reason for row, reason in json.loads(str(arrays["left_out"])).items()}
            self.left_out |= left_out
            self._parts += 1
        self.done[list(self.left_out)] = True
        if self.done.any():
            log.info("%s: %d of %d cells are done already", folder.name, self.done.sum(), len(self.done))

    def add(self, rows: list[int], probabilities: Float[np.ndarray, "b classes"]) -> None:
        """Keep the probabilities of some rows."""
        self.probabilities[rows] = probabilities
        self.done[rows] = True
        self._new_rows += rows
        if time.monotonic() - self._written > _INTERVAL_S:
            self.flush()

    def leave_out(self, row: int, reason: str) -> None:
        """Keep the reason why a row has no crop."""
        self.left_out[row] = self._new_left_out[row] = reason
        self.done[row] = True

    def flush(self) -> None:
        """Write what is new."""
        if self._folder is None or not (self._new_rows or self._new_left_out):
            return
        with atomic_write(self._folder / f"part-{self._parts:06d}.npz") as temporary:
            np.savez(
                temporary,
                rows=np.array(self._new_rows, np.int64),
                probabilities=self.probabilities[self._new_rows],
                left_out=np.array(json.dumps(self._new_left_out)),
            )
        self._parts += 1
        self._new_rows, self._new_left_out = [], {}
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the parts: the prediction is written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
