"""Annotation files that were read last: the jobs of a grid read the same ones."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImagesAndRows:
    """The images that have points, and a hash of all points."""

    images: list[Path]
    rows: str


class LastRead:
    """Keeps what was read last: the jobs of a grid read the same annotation files once in a process.

    An explicit object, for an lru_cache would keep the source and its table in memory with its key.
    """

    def __init__(self) -> None:
        self._key: str | None = None
        self._value: ImagesAndRows | None = None

    def get(self, key: str, read: Callable[[], ImagesAndRows]) -> ImagesAndRows:
        """The value kept under `key`; else what `read` returns, which replaces it."""
        if self._value is None or key != self._key:
            self._value = None
            self._key, self._value = key, read()
        return self._value
