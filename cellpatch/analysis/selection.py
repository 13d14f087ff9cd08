"""Which of the runs a figure, a table or a page is about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cellpatch.analysis.run_result import RunResult

NOT_SET = "not set"


@dataclass(frozen=True)
class Selection:
    """Values to keep; empty keeps all. `sigmas` are of blur: other faults stay.

    `where` are settings of the config, `KEY=VALUE`; of a key that is named several times, each value is kept.
    """

    models: tuple[str, ...] = ()
    adapt: tuple[str, ...] = ()
    limits: tuple[int, ...] = ()
    sigmas: tuple[float, ...] = ()
    where: tuple[str, ...] = ()

    def choose(self, results: Sequence[RunResult]) -> list[RunResult]:
        """The runs that have one of the values of each option, with clean cells and the chosen sigmas that they have.

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
            wanted_settings.setdefault(key, []).append(_parsed(key, value))
        for key, values in wanted_settings.items():
            chosen = _kept(chosen, f"--where {key}", values, partial(_setting, key=key))
        return self._sharpened(chosen) if self.sigmas else chosen

    def _sharpened(self, runs: Sequence[RunResult]) -> list[RunResult]:
        """The runs without blur of other sigmas."""
        there = sorted({condition.sigma for run in runs for condition in run.confusions if condition.is_blur})
        if missing := sorted(set(self.sigmas) - {*there} - {0.0}):
            found = f"must be of {_listed(there)}" if there else "finds no run that was evaluated under blur"
            raise ValueError(f"--sigma {found}, but got {_listed(missing)}")
        kept = [
            {at: n for at, n in run.confusions.items() if not at.is_blur or at.sigma in self.sigmas} for run in runs
        ]
        return [replace(run, confusions=confusions) for run, confusions in zip(runs, kept, strict=True)]


def _kept(
    results: Sequence[RunResult], option: str, wanted: Sequence[object], value_of: Callable[[RunResult], object]
) -> list[RunResult]:
    found = [(run, value_of(run)) for run in results]
    missing = [value for value in wanted if value not in [each for _, each in found]]
    if all(each == NOT_SET for _, each in found):
        raise ValueError(f"{option}: no run has this setting")
    if missing:
        there = sorted({_shown(each) for _, each in found})
        raise ValueError(f"{option}: must be of {', '.join(there)}, but got {_listed(missing)}")
    return [run for run, value in found if value in wanted]


def _setting(run: RunResult, key: str) -> object:
    """The value of a dotted key of the run's config; NOT_SET where there is none."""
    value: object = run.record.settings.config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return NOT_SET
        value = value[part]
    return value


def _parsed(key: str, value: str) -> object:
    """A value as it stands in the config of a run that `key=value` was given to."""
    try:
        return OverridesParser.create().parse_override(f"{key}={value}").value()
    except HydraException:
        return value


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(_shown, values))
