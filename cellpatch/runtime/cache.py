"""What jobs of one process share: the last thing made, so that a grid does not make it again in each job."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LastResult(Generic[T]):
    """Keeps one thing with its key, so that a grid over many does not pile them up."""

    def __init__(self) -> None:
        self._kept: dict[object, T] = {}

    def get(self, key: object, make: Callable[[], T]) -> T:
        """What was kept under this key; else what `make` gives, in place of what was kept."""
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = make()
        return self._kept[key]
