"""Arguments of a component, checked against the signature of its class."""

import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from cellpatch.config.mistakes import closest, did_you_mean, in_words
from cellpatch.runtime.typed import typed_list
from cellpatch.training.trainer_arguments import DECIDED, PASSED


def unknown_key(key: str, allowed: Sequence[str]) -> str:
    """What is wrong with a key that Hydra's + added; `allowed` are the names beside it."""
    parent, dot, leaf = key.rpartition(".")
    found = [f"{parent}{dot}{name}" for name in closest(leaf, allowed)]
    return f"unknown key {key}; allowed are {', '.join(allowed)}{did_you_mean(found)}"


def check_arguments(node_path: str, target: type[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as pydantic accepts them for the signature, in strict mode: true is not a number, 1.0 no integer."""
    parameters = inspect.signature(target).parameters
    allowed = [name for name in parameters if name != "self"] if node_path != "trainer" else [*DECIDED, *PASSED]
    unknown = [key for key in arguments if key not in allowed]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        raise ValueError(unknown_key(f"{node_path}.{unknown[0]}", allowed))
    hints = _hints(target)
    arguments = {key: _with_names(hints.get(key), value) for key, value in arguments.items()}
    try:
        values = _schema(cast(Any, target))(**{key: value for key, value in arguments.items() if key in hints})
    except ValidationError as error:
        key, *inside = map(str, error.errors()[0]["loc"])
        if key not in arguments:
            raise ValueError(f"{node_path}.{key} is missing") from error
        hint, value = hints[key], arguments[key]
        if get_origin(hint) is dict and isinstance(value, dict) and inside and inside[0] in value:
            key, hint, value = f"{key}.{inside[0]}", get_args(hint)[1], value[inside[0]]
        proposed = _proposed_list(f"{node_path}.{key}", hint, value)
        message = f"{node_path}.{key} must be {in_words(hint)}, but got {value!r}{proposed}"
        raise ValueError(message) from error
    return {key: getattr(values, key) if key in hints else value for key, value in arguments.items()}


def _proposed_list(key: str, hint: Any, value: Any) -> str:
    """How a list of names is typed, where a single one came, or names that read as something else."""
    names = value if isinstance(value, list) else [value]
    if not _takes_names(hint) or not all(isinstance(name, str | int | float) for name in names):
        return ""
    return f": type {typed_list(key, map(str, names))}"


def _takes_names(hint: Any) -> bool:
    """Whether a hint is a list of texts, or of such a list and others."""
    if get_origin(hint) in (Union, UnionType):
        return any(map(_takes_names, get_args(hint)))
    return get_origin(hint) in (list, Sequence) and get_args(hint) == (str,)


def _with_names(hint: Any, value: Any) -> Any:
    """A value whose whole numbers are texts where the hint is a list of texts: a class may be called 3."""
    if not _takes_names(hint) or not isinstance(value, list):
        return value
    return [str(each) if type(each) is int else each for each in value]


@lru_cache(maxsize=64)  # a schema takes milliseconds to build, and every job of a grid needs the same
def _schema(target: Any) -> type[BaseModel]:
    parameters, hints = inspect.signature(target).parameters, _hints(target)
    definitions: dict[str, Any] = {
        name: (hint, ... if parameters[name].default is inspect.Parameter.empty else parameters[name].default)
        for name, hint in hints.items()
        if name in parameters
    }
    settings = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=(), validate_default=False)
    return create_model(target.__name__, __config__=settings, **definitions)


def _hints(target: type[Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(target.__init__)
    except NameError:  # a library's annotation that exists for type checkers only
        return {}
    return {name: hint for name, hint in hints.items() if name != "return"}
