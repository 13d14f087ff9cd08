"""Which of the runs a figure, a table or a page is about: the options --models, --adapt, --limit, --sigma, --where."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError, safe_load

from cellpatch.analysis.results import RunResult
from cellpatch.optics.conditions import CLEAN

_MISSING = object()
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Selection:
    """Values to keep; empty keeps all.

    `where` are settings of the config, `KEY=VALUE`; of a key that is named several times, each value is kept.
    """

    models: tuple[str, ...] = ()
    adapt: tuple[str, ...] = ()
    limits: tuple[int, ...] = ()
    sigmas: tuple[float, ...] = ()
    where: tuple[str, ...] = ()

    def choose(self, results: Sequence[RunResult]) -> list[RunResult]:
        """The runs that have one of the values of each option, with clean cells and the chosen sigmas.

        Raises ValueError for a value that no run has, and if no run has all of them.
        """
        chosen = list(results)
        for option, wanted, value_of in (
            ("--models", self.models, lambda run: run.coordinates.model),
            ("--adapt", self.adapt, lambda run: run.coordinates.adapt),
            ("--limit", self.limits, lambda run: run.coordinates.flag_limit),
        ):
            chosen = _kept(chosen, option, wanted, value_of) if wanted else chosen
        wanted_settings: dict[str, list[object]] = {}
        for setting in self.where:
            key, _, value = setting.partition("=")
            wanted_settings.setdefault(key, []).append(_parsed(value))
        for key, values in wanted_settings.items():
            chosen = _kept(chosen, f"--where {key}", values, partial(_setting, key=key))
        return [self._sharpened(run) for run in chosen] if self.sigmas else chosen

    def _sharpened(self, run: RunResult) -> RunResult:
        """The run under its clean condition and the chosen sigmas alone."""
        kept = {at: counts for at, counts in run.confusions.items() if at == CLEAN or at.sigma in self.sigmas}
        if missing := sorted(set(self.sigmas) - {condition.sigma for condition in kept} - {0.0}):
            there = sorted({condition.sigma for condition in run.confusions} - {0.0})
            raise ValueError(f"--sigma must be of {_listed(there)} for {run.run}, but got {_listed(missing)}")
        return replace(run, confusions=kept)


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


def _kept(
    results: Sequence[RunResult], option: str, wanted: Sequence[object], value_of: Callable[[RunResult], object]
) -> list[RunResult]:
    found = [(run, value_of(run)) for run in results]
    missing = [value for value in wanted if value not in [each for _, each in found]]
    if missing:
        there = sorted({_shown(each) for _, each in found})
        raise ValueError(f"{option}: must be of {', '.join(there)}, but got {_listed(missing)}")
    return [run for run, value in found if value in wanted]


def _setting(run: RunResult, key: str) -> object:
    """The value of a dotted key of the run's config; raises ValueError for an unknown key of a malformed one."""
    config = OmegaConf.create(run.record.settings.config)
    try:
        value = OmegaConf.select(config, key, default=_MISSING)
    except OmegaConfBaseException as error:
        raise ValueError(f"--where {key}: {str(error).splitlines()[0]}") from error
    return "not set" if value is _MISSING else OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _parsed(value: str) -> object:
    """A value as a config has it: a number, a truth value, a list or text."""
    try:
        return float(value) if _is_number(value) else safe_load(value)
    except YAMLError:
        return value


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(_shown, values))
