"""Checks that come before any work."""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from cellpatch.config.instantiate import without
from cellpatch.config.schema import CONF, Config

# Where a `_target_` may stand, and what its class must be or derive from: it is code that a YAML or a record runs.
PLACES = {
    "model.backbone": ("cellpatch.models.backbone.Backbone",),
    "model.weights": ("cellpatch.models.weights.Weights",),
    "data": ("cellpatch.data.sources.source.Source",),
    "data.split": ("cellpatch.data.splits.BySpecimen",),
    "data.loading": ("cellpatch.data.loading.Loading",),
    "data.costs": ("cellpatch.metrics.classification.Costs",),
    "adapt": ("cellpatch.training.adaptation.FineTuning", "cellpatch.probing.probes.Probe"),
    "augment": ("cellpatch.data.augment.DeviceAugment", "cellpatch.data.augment.AlbumentationsAugment"),
    "optics": ("cellpatch.optics.conditions.OpticsSettings",),
    "trainer": ("pytorch_lightning.Trainer",),
    "logger": ("pytorch_lightning.loggers.WandbLogger",),
}


def _folder_name(name: Any) -> str:
    """The name of data as text, such as of a year, which YAML takes for a number."""
    text = str(name) if isinstance(name, str | int) else ""
    if not text.strip() or text.startswith(".") or "/" in text or "\\" in text:
        raise ValueError(f"data.name must name a folder, without a dot first, / or \\, but got {name!r}")
    return text


def check(config: DictConfig, part: str | None = None) -> dict[str, Any]:
    """Resolve the config to plain values after checking every key and type in it, or in one of its parts.

    Raises ValueError that names the key: a missing value, an untrusted `_target_`, a key that the target's
    signature lacks, or a value of another type than its annotation.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ValueError(f"these keys need a value: {', '.join(f'{key}=...' for key in missing)}")
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except InterpolationKeyError as error:
        chosen = " ".join(f"{key}={config[key].get('name')}" for key in ("model", "adapt"))
        told = str(error.msg).splitlines()[0]
        raise ValueError(
            f"{error.full_key} is taken from another key that this config lacks ({told}): does {chosen} make sense?"
        ) from error
    plain["data"]["name"] = _folder_name(plain["data"]["name"])
    if plain["seed"] < 0:
        raise ValueError(f"seed must be >= 0, but got {plain['seed']}")
    unknown = sorted(set(plain) - {field.name for field in fields(Config)})
    if unknown:  # Hydra's + adds them whatever the schema says
        raise ValueError(f"unknown key {', '.join(unknown)}; allowed are {[field.name for field in fields(Config)]}")
    if plain["flag_limit"] < 1:
        raise ValueError(f"flag_limit must be >= 1, but got {plain['flag_limit']}")
    weights = plain["model"].get("weights")
    if plain.get("weights_dir") is not None and weights is not None and weights["file"] is None:
        weights["file"] = _file_of(plain["model"]["name"], Path(plain["weights_dir"]))
    for place, node in _nodes(plain, ""):
        asked = part is None or place.partition(".")[0] == part  # checking a place imports what it names
        if asked and (place != "trainer" or node != _shipped_trainer()):  # Lightning is seconds, and probes do without
            _check_node(place, node)
    return plain


def _file_of(model: str, weights_dir: Path) -> str | None:
    """The one file there that is named after the model; None if there is none: other places may have its weights."""
    if not weights_dir.is_dir():
        raise ValueError(f"weights_dir must be a folder, but got {weights_dir}")
    files = [weights_dir / f"{model}{suffix}" for suffix in (".safetensors", ".pth", ".pt", ".bin")]
    found = [str(file) for file in files if file.exists() or file.is_symlink()]
    if len(found) > 1:
        raise ValueError(f"weights_dir must hold one file of {model}, but got {found}")
    return found[0] if found else None


# Keys beside a target's arguments: labels and nested nodes, which train.py reads itself.
_BESIDE = {
    "model": {"name", "backbone", "weights", "recipe"},
    "model.recipe": {"lr", "weight_decay", "warmup", "stain_gain", "stain_offset", "lora_targets"},
    "data": {"name", "split", "loading", "costs"},
    "adapt": {"name"},
    "trainer": {"resume"},
}


@cache
def _shipped_trainer() -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / "default.yaml"))  # type: ignore[return-value]


def _nodes(node: dict[Any, Any], place: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    for key, value in node.items():
        here = f"{place}.{key}" if place else str(key)
        if isinstance(value, dict):
            if not place or "_target_" in value or here in _BESIDE:
                yield here, value
            yield from _nodes(value, here)
        elif isinstance(value, list):
            yield from _nodes(dict(enumerate(value)), here)


def _check_node(place: str, node: dict[str, Any]) -> None:
    arguments = without(node, "_target_", *_BESIDE.get(place, ()))
    if "_target_" not in node:
        allowed: list[str] = sorted(_BESIDE.get(place, ()))
        hints: dict[str, Any] = {}
        open_ended = False
    else:
        target = _locate(place, node["_target_"])
        parameters = inspect.signature(target).parameters
        allowed = [name for name in parameters if name != "self"]
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        hints = _hints(target)
    for key, value in arguments.items():
        if key not in allowed and not open_ended:
            raise ValueError(f"unknown key {place}.{key}; allowed are {', '.join(allowed)}")
        if key in hints and not (is_bearable(value, hints[key], conf=_NUMBERS) and _flags_fit(value, hints[key])):
            raise ValueError(f"{place}.{key} must be {_readable(hints[key])}, but got {value!r}")
        if key in hints and float in (kinds := _kinds(hints[key])) and not kinds & {int, Any}:
            node[key] = _as_floats(value)


def _kinds(hint: Any) -> set[Any]:
    return {hint}.union(*map(_kinds, get_args(hint)))


def _as_floats(value: Any) -> Any:
    """0 and 0.0 are one setting where a number need not be whole, and so one run."""
    if isinstance(value, list):
        return [_as_floats(each) for each in value]
    return float(value) if type(value) is int else value


def _hints(target: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__)
    except NameError:  # a library's annotation that exists for type checkers only
        return {}


def _flags_fit(value: Any, hint: Any) -> bool:
    """Whether true and false stand only where they may: to Python they are numbers, in YAML a slip."""
    if isinstance(value, list):
        return all(_flags_fit(each, hint) for each in value)
    return not isinstance(value, bool) or hint in (bool, Any) or any(_flags_fit(value, arg) for arg in get_args(hint))


_NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int is a float, as in YAML


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _locate(place: str, name: Any) -> type[Any]:
    """The class at a place; nothing outside our namespace and the libraries of PLACES is even imported."""
    bases = PLACES.get(place)
    if bases is None:
        raise ValueError(f"{place} takes no _target_, but got {name!r}; they stand at {', '.join(PLACES)}")
    kinds = " or ".join(bases)
    if not isinstance(name, str) or not (name.startswith("cellpatch.") or name in bases):
        raise ValueError(f"{place}._target_ must be {kinds}, or derive from it in cellpatch, but got {name!r}")
    target = _import(place, name)
    if not (inspect.isclass(target) and {_import(place, base) for base in bases} & set(target.__mro__)):
        raise ValueError(f"{place}._target_ must derive from {kinds}, but got {name!r}")
    return target


def _import(place: str, name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{place}._target_: there is no {name} ({error})") from error
