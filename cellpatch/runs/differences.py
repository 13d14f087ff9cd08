"""In what two stored runs differ: their settings, their data, the code that trained them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import JsonValue

from cellpatch.runs.identity import effective_settings
from cellpatch.runs.record import Record
from cellpatch.runtime.json_types import Json

Part = Literal["settings", "data", "code"]
PARTS: tuple[Part, ...] = ("settings", "data", "code")
_NOT_STATED = "not stated"
_LATER = {("data.hospital", "a"), ("data.widest_field_um", "None")}  # earlier versions have no such keys to state
_WITHOUT_EFFECT = ("runs_dir", "dry_run", "retry_failed", "logger", "experiment")  # on what a run becomes


@dataclass(frozen=True)
class Difference:
    """A key that two runs state otherwise, and both values as text."""

    part: Part
    key: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.key}: {self.first} | {self.second}"


def differences(first: Record, second: Record) -> list[Difference]:
    """What two runs state otherwise, in the order of PARTS.

    Settings without effect are left out: those that another one replaces, and one at the value that it has where an
    earlier version does not state it.
    """
    settings = _settings(first), _settings(second)
    kept = {key: None for record in (first, second) for key in _keys_with_effect(record)}
    data, code = (_data(first), _data(second)), (_code(first), _code(second))
    return [
        *_compare("settings", *settings, kept),
        *_compare("data", *data, data[0] | data[1]),
        *_compare("code", *code, code[0] | code[1]),
    ]


def _compare(part: Part, one: Mapping[str, str], other: Mapping[str, str], keys: Iterable[str]) -> Iterator[Difference]:
    for key in keys:
        first, second = one.get(key, _NOT_STATED), other.get(key, _NOT_STATED)
        if first != second:
            yield Difference(part, key, first, second)


def format_differences(found: list[Difference]) -> list[str]:
    """A line a difference, and one that names the parts without any."""
    differing = {each.part for each in found}
    equal = [part for part in PARTS if part not in differing]
    return [*map(str, found), *([f"the runs do not differ in {', '.join(equal)}"] if equal else [])]


def hidden_differences(first: Record, second: Record) -> list[Difference]:
    """What two runs of one place in a grid state otherwise: settings with effect, data, and the training code."""
    return [
        each
        for each in differences(first, second)
        if each.key.partition(".")[0] not in _WITHOUT_EFFECT and each.key != "git commit"
    ]


def _settings(record: Record) -> dict[str, str]:
    return dict(_flat(record.settings.config))


def _keys_with_effect(record: Record) -> Iterator[str]:
    """As users write them: an identity keeps `adapt.balance` under the name that it was first given."""
    for key, value in _flat(effective_settings(record.settings.config)):
        no_fault = key.startswith("optics.faults.") and value == "[]"
        if not no_fault and (key, value) not in _LATER:
            yield "adapt.balance" if key == "adapt.class_weights" else key


def _data(record: Record) -> dict[str, str]:
    facts, pretraining = record.data, record.pretraining
    intake = {} if facts.intake is None else facts.intake.as_json()
    stated: Json = {
        "data fingerprint": facts.fingerprint,
        "source": {name: value for name, value in asdict(facts.source).items() if value is not None},
        "geometry": None if facts.geometry is None else asdict(facts.geometry),
        "classes": list(record.classes),
        "cells": {part: dict(counts) for part, counts in record.counts.items()},
        "intake": intake,
        "weights fingerprint": record.weights,
        "pretraining fingerprint": None if pretraining is None else pretraining.fingerprint,
    }
    return dict(_flat(stated))


def _code(record: Record) -> dict[str, str]:
    code, git = record.training_code, record.git
    stated: Json = {
        "training code number": None if code is None else code.number,
        "training code fingerprint": None if code is None else code.fingerprint,
        "cellpatch version": record.cellpatch,
        "git commit": None if git is None else f"{git.commit[:12]}{' with changes' * git.dirty}",
    }
    return dict(_flat(stated))


def _flat(node: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a node by their dotted keys; a list is a leaf."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)
