"""The options --models, --adapt, --limit, --sigma and --where of commands that read runs."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from cellpatch.analysis.selection import Selection

_Number = TypeVar("_Number", int, float)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a Selection."""
    group = parser.add_argument_group("which runs", "all if none of these is given")
    group.add_argument("--models", metavar="NAME,...", help="such as cnn,customvit")
    group.add_argument("--adapt", metavar="NAME,...", help="such as scratch,linear_probe")
    group.add_argument("--limit", metavar="N,...", help="values of flag_limit, such as 256,1024")
    group.add_argument("--sigma", metavar="SIGMA,...", help="blur beside clean cells, such as 0.8,3.2")
    group.add_argument(
        "--where", metavar="KEY=VALUE", action="append", default=[], help="a setting of the runs, such as adapt.lr=0.01"
    )


def selection_of(options: argparse.Namespace) -> Selection:
    """The selection that parsed options describe; raises ValueError for one that is malformed."""
    for setting in options.where:
        if "=" not in setting:
            raise ValueError(f"--where must be KEY=VALUE, but got {setting}")
    return Selection(
        models=_words(options.models),
        adapt=_words(options.adapt),
        limits=tuple(_number("--limit", word, int) for word in _words(options.limit)),
        sigmas=tuple(_number("--sigma", word, float) for word in _words(options.sigma)),
        where=tuple(options.where),
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",")) if text else ()


def _number(option: str, word: str, kind: Callable[[str], _Number]) -> _Number:
    try:
        return kind(word)
    except ValueError as error:
        raise ValueError(f"{option} must be numbers, separated by commas, but got {word}") from error
