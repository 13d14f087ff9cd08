"""What a search varies: settings as Hydra's grammar gives them, as distributions of Optuna."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

_OTHER_CELLS = "its trials would not be compared on the same cells; give one value"
_NO_TRAINING = "it does not change what is trained; give one value"
_NOT_SEARCHED = {
    "data": _OTHER_CELLS,
    "flag_limit": "more annotations are always better; give one value",
    "experiment": _OTHER_CELLS,
    "optics": "trials would be compared on differently blurred cells; give one value",
    **dict.fromkeys(("runs_dir", "weights_dir", "retry_failed", "dry_run", "logger"), _NO_TRAINING),
}
_ALLOWED = "interval(low, high), tag(log, interval(low, high)), range(start, stop), choice(a, b) or a,b"


@dataclass(frozen=True)
class SearchSpace:
    """Settings that a search varies, by key; overrides that all trials share; the seeds that a trial is averaged over.

    A categorical value is text as it stands in an override.
    """

    distributions: Mapping[str, BaseDistribution]
    fixed: Sequence[str]
    seeds: Sequence[str]

    def settings_of(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial's own settings."""
        return [f"{key}={params[key]}" for key in self.distributions]

    def jobs_of(self, params: Mapping[str, Any]) -> list[list[str]]:
        """The overrides of a trial's jobs, one a seed."""
        return [[*self.fixed, *self.settings_of(params), *([seed] if seed else [])] for seed in self.seeds or [""]]

    def samples(self) -> list[dict[str, Any]]:
        """As few settings as have each category, and both ends of each range, at least once."""
        values = {key: _ends(distribution) for key, distribution in self.distributions.items()}
        count = max(map(len, values.values()))
        return [{key: each[i % len(each)] for key, each in values.items()} for i in range(count)]


def parse_space(overrides: Sequence[str]) -> SearchSpace:
    """The search that overrides describe; of a key given twice the last counts.

    Raises ValueError without a setting to vary, and for one that a search may not vary.
    """
    by_key: dict[str, Override] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        by_key[override.get_key_element()] = override
    seed = by_key.pop("seed", None)
    varied = {key: each for key, each in by_key.items() if each.is_sweep_override()}
    for key in varied:
        reason = _NOT_SEARCHED.get(re.split(r"[./@]", key.lstrip("+~"))[0])
        if reason is not None:
            raise ValueError(f"{key} cannot be searched: {reason}")
    if not varied:
        raise ValueError(f"a search needs a setting to vary, such as 'adapt.lr=interval(1e-4,1e-2)': {_ALLOWED}")
    fixed = [str(each.input_line) for key, each in by_key.items() if key not in varied]
    return SearchSpace({key: _distribution(each) for key, each in varied.items()}, fixed, _seeds(seed))


def _seeds(seed: Override | None) -> list[str]:
    """The overrides of the seeds, sorted out from what is varied: a search averages over them."""
    if seed is None:
        return []
    if not seed.is_sweep_override():
        return [str(seed.input_line)]
    if seed.is_interval_sweep():
        raise ValueError(f"{seed.input_line}: seeds are averaged over, not searched; give a list, such as seed=0,1,2")
    seeds = [f"seed={value}" for value in seed.sweep_string_iterator()]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{seed.input_line}: each seed must be given once")
    return seeds


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    log = isinstance(value, RangeSweep | IntervalSweep) and "log" in value.tags
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            assert low is not None
            assert high is not None
            if isinstance(low, int) and isinstance(high, int):  # int(interval(4, 8)), both ends included
                return IntDistribution(low, high, log)
            return FloatDistribution(low, high, log)
        values = list(override.sweep_iterator())
        if isinstance(value, RangeSweep) and values:
            return _of_range(sorted(values), abs(value.step), log)
        texts = list(override.sweep_string_iterator())
        if not texts or len(set(texts)) < len(texts):
            raise ValueError("it needs values, each of them once")
        return CategoricalDistribution(texts)
    except ValueError as error:
        raise ValueError(f"{override.input_line} cannot be searched: {error}; allowed is {_ALLOWED}") from None


def _of_range(values: Sequence[Any], step: float, log: bool) -> BaseDistribution:
    """The numbers that a grid would have: range(1,4) ends at 3."""
    low, high = values[0], values[-1]
    if all(isinstance(each, int) for each in values):
        return IntDistribution(low, high, log, int(step))
    return FloatDistribution(low, high, log, None if log else float(step))


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]
