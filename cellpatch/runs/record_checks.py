"""What types do not state of a record: how deep its JSON is, which numbers fit together, what a folder needs of it."""

import math
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from cellpatch.metrics.classification import Scores
from cellpatch.optics.conditions import CLEAN, KINDS, MAX_PX, Condition

if TYPE_CHECKING:
    from cellpatch.runs.record import Record

_DEEPEST = 64  # levels of a record's JSON: those of all versions have less than ten
_LARGEST = 2**63  # of a whole number: what NumPy and pandas hold
_IDENTITY = re.compile(r"[0-9a-f]{12}")


def check_json(node: Any) -> None:
    """Raise ValueError for JSON that is too deep, and for numbers and texts that no other program could hold."""
    level = [node]
    for _ in range(_DEEPEST):
        if not level:
            return
        for value in level:
            if isinstance(value, int) and abs(value) >= _LARGEST:
                raise ValueError(f"it holds the whole number {str(value)[:20]}..., which is too large")
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                for key in value:
                    _check_text(key)
        level = [child for value in level for child in _children(value)]
    raise ValueError(f"its JSON is nested more than {_DEEPEST} levels deep")


def _check_text(text: str) -> None:
    if "\0" in text or not _is_unicode(text):
        raise ValueError(f"it holds {text[:40]!r}, which is no text of Unicode")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a pair of surrogates
        return False
    return True


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def check_record(record: "Record") -> None:
    """Raise ValueError that names the key if a record's parts do not fit together."""
    classes = record.classes
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes must be different names, at least one, but got {classes}")
    if "train" not in record.counts or min(record.counts["train"].values(), default=-1) < 0:
        raise ValueError(f"counts.train must be cells by class, but got {record.counts.get('train')}")
    if not 0 < record.temperature < math.inf:
        raise ValueError(f"temperature must be finite and > 0, but got {record.temperature}")
    geometry = record.data.geometry
    if geometry is not None and geometry.side_px > MAX_PX:
        raise ValueError(f"data.geometry must be of crops of at most {MAX_PX} px, but got {geometry.side_px}")
    if not 1 <= record.settings.model.backbone.input_px <= MAX_PX:
        got = record.settings.model.backbone.input_px
        raise ValueError(f"config.model.backbone.input_px must be 1 to {MAX_PX}, but got {got}")
    conditions = [row.condition for row in record.metrics]
    if CLEAN not in conditions or len(set(conditions)) != len(conditions):
        raise ValueError(f"metrics must have clean cells and each condition once, but got {list(map(str, conditions))}")
    for row in record.metrics:
        _check_condition(row.condition)
        _check_scores(row.scores, classes, f"metrics of {row.condition}")


def _check_condition(condition: Condition) -> None:
    if condition.kind not in KINDS or not 0 <= condition.sigma <= MAX_PX:
        allowed = f"{', '.join(KINDS)} and sigma 0 to {MAX_PX}"
        raise ValueError(f"metrics must be of {allowed}, but got {condition.kind!r} and {condition.sigma}")


def _check_scores(scores: Scores, classes: list[str], where: str) -> None:
    if set(scores.per_class) != set(classes):
        raise ValueError(f"{where}: per_class must be of {classes}, but got {list(scores.per_class)}")
    if [len(row) for row in scores.confusion] != [len(classes)] * len(classes) or min(map(min, scores.confusion)) < 0:
        raise ValueError(f"{where}: confusion must be counts of {len(classes)} x {len(classes)} classes")
    for each in fields(scores):
        value = getattr(scores, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}: {each.name} must be finite, but got {value}")


def check_stored_record(record: "Record", files: tuple[str, ...]) -> None:
    """Raise ValueError that names the key if a record lacks what a run's folder needs: `files`, and an identity.

    An identity is part of the names of locks and folders, and computed from these settings.
    """
    if not _IDENTITY.fullmatch(record.identity):
        raise ValueError(f"identity must be 12 hexadecimal digits, but got {record.identity!r}")
    missing = sorted(set(files) - set(record.files))
    if missing:
        raise ValueError(f"files must name {', '.join(missing)}, but has {sorted(record.files)}")
    config = record.settings.config
    for section in ("model", "adapt", "optics", "trainer"):
        if not isinstance(config.get(section), dict):
            raise ValueError(f"config.{section} must be an object, but got {str(config.get(section))[:80]!r}")
    if not isinstance(config.get("augment", 0), dict | None):
        raise ValueError(f"config.augment must be an object or null, but got {str(config.get('augment'))[:80]!r}")
