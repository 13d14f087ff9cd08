"""Hydra's errors in plain words: which key or value, what is allowed, what was probably meant."""

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from cellpatch.config.conf import choices_with
from cellpatch.training.trainer_arguments import PASSED, why_refused

HYDRA_ERRORS = (HydraException, OmegaConfBaseException)
_PROPOSED = 3  # names
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}

_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def closest(word: str, names: Iterable[str]) -> list[str]:
    """The name that differs in capitals alone; without one, those spelled most like a word, then those that hold it."""
    by_lower = {name.lower(): name for name in names}
    lower = word.lower()
    if lower in by_lower:
        return [by_lower[lower]]
    found = difflib.get_close_matches(lower, by_lower, _PROPOSED, 0.6)
    found += [name for name in by_lower if len(lower) > 2 and lower in name]
    found += [name for name in by_lower if name == "".join(part[:1] for part in lower.split("_"))]
    return [by_lower[name] for name in dict.fromkeys(found)][:_PROPOSED]


def did_you_mean(names: Sequence[str]) -> str:
    """`; did you mean A or B?`; nothing without names."""
    return f"; did you mean {' or '.join(names)}?" if names else ""


def close_keys(key: str, keys: Sequence[str]) -> list[str]:
    """Of dotted keys those that somebody who typed `key` may have meant.

    Those beside it whose last part is close; without one, those elsewhere whose last part is the same, else close.
    """
    parent, _, leaf = key.rpartition(".")
    beside = {each.rpartition(".")[2]: each for each in keys if each.rpartition(".")[0] == parent}
    by_leaf: dict[str, list[str]] = {}
    for each in keys:
        by_leaf.setdefault(each.rpartition(".")[2], []).append(each)
    elsewhere = by_leaf.get(leaf) or [each for name in _alike(leaf, by_leaf) for each in by_leaf[name]]
    return ([beside[name] for name in closest(leaf, beside)] or elsewhere)[:_PROPOSED]


def _alike(word: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, list(names), _PROPOSED, 0.7)


def in_words(hint: Any) -> str:
    """A type as a user reads it, such as `a whole number or null`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(in_words, inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping of keys to values"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a list of {_PLURALS.get(inner[0], in_words(inner[0]))}" if inner else "a list"
    return _WORDS.get(hint) or (hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", ""))


def explain(error: Exception, overrides: Sequence[str], program: str = "") -> str:
    """What to change in a command that Hydra rejects; Hydra's own message where there is no better one.

    `program` is what stands before the overrides, if they were typed as a command: it is repeated, with better quotes.
    """
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        return _not_readable(str(error.override), overrides, program)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _no_choice(error.missing_cfg_file, list(error.options))
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause)
    if isinstance(cause, ValidationError):
        return _wrong_type(cause, overrides)
    text = str(error).strip()
    if match := re.match(r"Ambiguous value for argument '(.*?)=(.*?)'\n1\.", text, re.DOTALL):
        override = f"{match[1]}={match[2]}"
        if match[1] == "logger":
            trackers = _repeated(program, overrides, override, f"'logger=[{match[2]}]'")
            return f"{override}: several trackers at once are a list: {trackers}"
        return (
            f"{override}: several values need -m; one value with a comma needs quotes that Hydra sees: "
            f"{_repeated(program, overrides, override, for_shell(match[1], match[2]))}"
        )
    if match := re.match(r"Could not append to config. An item is already at '(.*?)'", text):
        return f"{match[1]} is a key already: give it without +"
    if match := re.match(r"Could not delete from config. '(.*?)' does not exist", text):
        return f"~{match[1]}: there is no key {match[1]} to remove"
    if match := re.match(r"Config group override must be a string or a list. Got (\w+)", text):
        return f"a group (model, data, adapt, ...) takes the name of a file in conf/, but got a value of {match[1]}"
    return text if isinstance(cause, NoneType) else f"{text}\n{cause}"


def for_shell(key: str, value: str) -> str:
    """KEY=VALUE as it is typed in a shell so that Hydra reads the value as one text."""
    inner = value.replace("\\", "\\\\").replace('"', '\\"')
    return "'" + f'{key}="{inner}"'.replace("'", "'\\''") + "'"


def _repeated(program: str, overrides: Sequence[str], wrong: str, right: str) -> str:
    """The whole command with one argument replaced; that argument alone where there is no command."""
    if not program or wrong not in overrides:
        return right
    return " ".join([program, *(right if each == wrong else shlex.quote(each) for each in overrides)])


def _not_readable(override: str, overrides: Sequence[str], program: str) -> str:
    key, equals, value = override.partition("=")
    if equals:
        right = _repeated(program, overrides, override, for_shell(key, value))
        return f"the value of {key} cannot be read: {value}. Put it in quotes that Hydra sees: {right}"
    before = next((a for a, b in pairwise(overrides) if b == override and "=" in a), None)
    if before is None:
        return f"{override!r} must be KEY=VALUE"
    joined = [f"{before} {override}" if each == before else each for each in overrides if each != override]
    right = _repeated(program, joined, f"{before} {override}", shlex.quote(f"{before} {override}"))
    return (
        f"{override!r} must be KEY=VALUE. If it belongs to the value before it, which has a space, put both in quotes: "
        f"{right}"
    )


def _no_choice(missing: str, options: list[str]) -> str:
    group, _, name = missing.rpartition("/")
    shown = group if group.startswith("hydra/") else group.replace("/", ".")
    allowed = f"{shown} must be one of {', '.join(options)}, but got {name!r}"
    return allowed + did_you_mean([f"{shown}={each}" for each in closest(name, options)])


def _unknown_key(cause: OmegaConfBaseException) -> str:
    key, parent = str(cause.full_key), cause.parent_node
    of_trainer = key.removeprefix("trainer.") if key.startswith("trainer.") else ""
    if reason := why_refused(of_trainer):
        return reason
    if of_trainer in PASSED:
        return f"{key} is not in conf/trainer/default.yaml: type it with a plus, +{key}=..."
    if not isinstance(parent, DictConfig):
        return f"unknown key {key}"
    root: Any = parent._get_root()
    keys = [each for each in _keys(root) if each.startswith("hydra.") == key.startswith("hydra.")]
    group, _, rest = key.partition(".")
    chosen = root[group] if rest and group in root else None
    name = chosen.get("name") if isinstance(chosen, DictConfig) else None
    owner = f"{group}={name}" if isinstance(name, str) else group
    if others := list(choices_with(key)):
        return f"unknown key {key} of {owner}; {', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    found = did_you_mean(close_keys(key, keys))
    beside = [str(each) for each in parent if each != "_target_"] if rest else []
    if not beside:
        return f"unknown key {key}{found}"
    where = key.rpartition(".")[0]
    return f"unknown key {key}{found or ';'} {owner if where == group else where} has the keys {', '.join(beside)}"


def _keys(node: Any, path: str = "") -> Iterator[str]:
    """The dotted keys of a config, nodes and leaves, without resolving anything."""
    for key in node:
        at = f"{path}.{key}" if path else str(key)
        if key != "_target_":
            yield at
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_missing() or child._is_interpolation()):
            yield from _keys(child, at)


def _wrong_type(cause: OmegaConfBaseException, overrides: Sequence[str]) -> str:
    key = str(cause.full_key)
    given = [each.partition("=")[2] for each in overrides if each.partition("=")[0].lstrip("+") == key]
    hint = get_type_hints(cause.object_type).get(key) if isinstance(cause.object_type, type) else None
    if not given:
        return f"{key} has no keys of its own"
    if hint is None:
        return f"{key}: {str(cause).splitlines()[0]}"
    one_of_several = re.match(r"Value '(.*?)' (of type|is not)", str(cause))
    return f"{key} must be {in_words(hint)}, but got {one_of_several[1] if one_of_several else given[-1]}"
