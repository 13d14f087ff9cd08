"""Counts and records of thousands of runs in little memory."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import dumps, loads
from typing import overload

import numpy as np
from jaxtyping import Int, Shaped

from cellpatch.optics.conditions import Condition
from cellpatch.runs.condition_scores import ConditionScores
from cellpatch.runs.record import parse_record
from cellpatch.runtime.json_types import Json

Confusions = Int[np.ndarray, "specimens classes classes"]


class SparseConfusions(Mapping[Condition, Confusions]):
    """Confusion matrices by condition; each is made when it is asked for.

    Only counts that are not zero are kept, and where they are: thousands of runs take a tenth of the memory.
    """

    def __init__(self, dense: Mapping[Condition, Confusions]) -> None:
        self._shapes = {condition: confusions.shape for condition, confusions in dense.items()}
        self._counts = {condition: _compact(confusions) for condition, confusions in dense.items()}

    def __getitem__(self, condition: Condition) -> Confusions:
        places, counts = self._counts[condition]
        confusions = np.zeros(self._shapes[condition], np.int32)
        confusions.reshape(-1)[places] = counts
        return confusions

    def __iter__(self) -> Iterator[Condition]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


def _compact(confusions: Confusions) -> tuple[Shaped[np.ndarray, " k"], Shaped[np.ndarray, " k"]]:
    """The places of the counts that are not zero, and the counts, in the smallest types that hold them."""
    places = np.flatnonzero(confusions)
    counts = confusions.reshape(-1)[places]
    types = np.min_scalar_type(confusions.size), np.min_scalar_type(counts.max(initial=0))
    return places.astype(types[0]), counts.astype(types[1])


def compress(stored: Json) -> bytes:
    """A record as `RunResult.compressed` keeps it: a fifth of its JSON, a tenth of its Python objects."""
    return zlib.compress(dumps(stored).encode(), 1)


def expand(compressed: bytes) -> Json:
    stored: Json = loads(zlib.decompress(compressed))
    return stored


@dataclass(frozen=True, eq=False)
class StoredMetrics(Sequence[ConditionScores]):
    """A record's scores, read from the compressed record when they are asked for: most of what it takes in memory."""

    compressed: bytes

    @overload
    def __getitem__(self, at: int) -> ConditionScores: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[ConditionScores]: ...
    def __getitem__(self, at: int | slice) -> ConditionScores | Sequence[ConditionScores]:
        return _metrics(self.compressed)[at]

    def __len__(self) -> int:
        return len(_metrics(self.compressed))


@lru_cache(maxsize=64)  # 130 kB each, 3 ms to read; figures ask a few times for those of a run
def _metrics(compressed: bytes) -> Sequence[ConditionScores]:
    stored = expand(compressed)
    return parse_record(stored, str(stored.get("run"))).metrics
