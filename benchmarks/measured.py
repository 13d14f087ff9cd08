"""The result of a benchmark: repeats of a number and its mark, printed as a line and kept as JSON."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Measured:
    """Repeats of one number; the mark is held if their median reaches it.

    `beside` has the parts of the number, such as the median seconds of ours and of the baseline, which is what a user
    would write instead.
    """

    name: str
    values: Sequence[float]
    unit: str
    bound: Literal["at most", "at least"]
    mark: float | None
    beside: Mapping[str, float]

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def held(self) -> bool | None:
        """Whether the mark is held; None without a mark."""
        if self.mark is None:
            return None
        return self.median <= self.mark if self.bound == "at most" else self.median >= self.mark


def seconds_of(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(ours: Callable[[], object], baseline: Callable[[], object], repeats: int, warm_up: int = 1) -> np.ndarray:
    """Seconds [repeats, 2] of two ways to do the same work, called in turn; `warm_up` calls of each are not counted."""
    taken = np.array([[seconds_of(ours), seconds_of(baseline)] for _ in range(repeats + warm_up)])
    return taken[warm_up:]


def share_of_time(name: str, taken: np.ndarray, at_most: float | None) -> Measured:
    """Our seconds over the baseline's, of pairs as `in_turn` gives them."""
    return Measured(name, (taken[:, 0] / taken[:, 1]).tolist(), "of the time", "at most", at_most, _medians(taken))


def times_as_fast(name: str, taken: np.ndarray, at_least: float | None) -> Measured:
    """The baseline's seconds over ours, of pairs as `in_turn` gives them."""
    return Measured(
        name, (taken[:, 1] / taken[:, 0]).tolist(), "times the speed", "at least", at_least, _medians(taken)
    )


def _medians(taken: np.ndarray) -> dict[str, float]:
    ours, baseline = np.median(taken, axis=0)
    return {"our s": float(ours), "their s": float(baseline)}


def as_line(result: Measured) -> str:
    """One line for people: median, quartiles, mark."""
    low, high = np.quantile(result.values, [0.25, 0.75])
    spread = f" ({low:.3g} to {high:.3g}, {len(result.values)} repeats)" if len(result.values) > 1 else ""
    beside = ", ".join(f"{value:.3g} {what}" for what, value in result.beside.items())
    mark = "" if result.mark is None else f"; {result.bound} {result.mark:g}: {'held' if result.held else 'MISSED'}"
    return f"{result.name}: {result.median:.3g}{spread} {result.unit}{mark}{f'  [{beside}]' if beside else ''}"


def option_parser(purpose: str, **defaults: int | str) -> argparse.ArgumentParser:
    """The options of a benchmark: one for each default and of its type, and --json FILE."""
    parser = argparse.ArgumentParser(description=purpose)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help="%(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return parser


def report(results: Sequence[Measured], file: Path | None) -> None:
    """Print lines for people and, if a file is given, write the numbers there."""
    print("\n".join(map(as_line, results)), flush=True)
    if file is not None:
        rows = [asdict(each) | {"values": list(each.values)} for each in results]
        file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
