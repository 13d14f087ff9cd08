"""What types do not state of a record: how deep its JSON is, which numbers fit together, what a folder needs of it."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from cellpatch.metrics.classification import Scores
from cellpatch.optics.conditions import CLEAN, FAULTS, KINDS, MAX_PX, Condition
from cellpatch.runs.cohorts import Cohort
from cellpatch.runs.condition_scores import ConditionScores
from cellpatch.runs.turned import TurnedScores
from cellpatch.runtime.json_types import Json

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


def check_parts(
    classes: Sequence[str],
    counts: Mapping[str, Mapping[str, int]],
    temperature: float,
    sides_px: Sequence[int],
    metrics: Sequence[tuple[Condition, Scores]],
) -> None:
    """Raise ValueError that names the key if a record's parts do not fit together.

    `sides_px` are those of crops and of the model's input: larger ones than MAX_PX are no cells, and fill the memory.
    """
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes must be different names, at least one, but got {classes}")
    if min(counts.get("train", {}).values(), default=-1) < 0:
        raise ValueError(f"counts.train must be cells by class, but got {counts.get('train')}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be finite and > 0, but got {temperature}")
    if not all(1 <= side <= MAX_PX for side in sides_px):
        keys = "data.geometry and config.model.backbone.input_px"
        raise ValueError(f"{keys} must be of 1 to {MAX_PX} px, but got {sides_px}")
    conditions = [condition for condition, _ in metrics]
    if CLEAN not in conditions or len(set(conditions)) != len(conditions):
        raise ValueError(f"metrics must have clean cells and each condition once, but got {list(map(str, conditions))}")
    for condition, scores in metrics:
        _check_condition(condition)
        _check_scores(scores, classes, f"metrics of {condition}")


def check_cohorts(cohorts: Sequence[Cohort], classes: Sequence[str], files: Iterable[str]) -> None:
    """Raise ValueError that names the key if external cohorts do not fit to their record."""
    names = [cohort.name for cohort in cohorts]
    if len(set(names)) != len(names):
        raise ValueError(f"cohorts must have different names, but got {names}")
    for cohort in cohorts:
        where = f"cohorts of {cohort.name!r}"
        unknown = sorted({name for name in cohort.class_map.values() if name is not None} - set(classes))
        if unknown:
            raise ValueError(f"{where}: class_map must name classes of {list(classes)}, but has {unknown}")
        _check_evaluation(cohort.file, cohort.metrics, classes, files, where)


def check_turned(
    turned: TurnedScores, metrics: Sequence[ConditionScores], classes: Sequence[str], files: Iterable[str]
) -> None:
    """Raise ValueError that names the key if scores of turned cells do not fit to their record."""
    cells = {row.condition: row.scores.n_test for row in metrics}
    for row in turned.metrics:
        if cells.get(row.condition) != row.scores.n_test:
            raise ValueError(f"turned: metrics must be of conditions and cells of the record, not {row.condition}")
    _check_evaluation(turned.file, turned.metrics, classes, files, "turned")


def _check_evaluation(
    file: str, metrics: Sequence[ConditionScores], classes: Sequence[str], files: Iterable[str], where: str
) -> None:
    if file not in set(files):
        raise ValueError(f"{where}: file must be one of files, but got {file!r}")
    if CLEAN not in [row.condition for row in metrics]:
        raise ValueError(f"{where}: metrics must have clean cells")
    for row in metrics:
        _check_condition(row.condition)
        _check_scores(row.scores, classes, f"{where}, {row.condition}")


def _check_condition(condition: Condition) -> None:
    if condition.kind not in KINDS | FAULTS or not 0 <= condition.sigma <= condition.most:
        allowed = f"{', '.join(KINDS | FAULTS)} and sigma 0 to {condition.most:g}"
        raise ValueError(f"metrics must be of {allowed}, but got {condition.kind!r} and {condition.sigma}")


def _check_scores(scores: Scores, classes: Sequence[str], where: str) -> None:
    if set(scores.per_class) != set(classes):
        raise ValueError(f"{where}: per_class must be of {classes}, but got {list(scores.per_class)}")
    if [len(row) for row in scores.confusion] != [len(classes)] * len(classes) or min(map(min, scores.confusion)) < 0:
        raise ValueError(f"{where}: confusion must be counts of {len(classes)} x {len(classes)} classes")
    for each in fields(scores):
        value = getattr(scores, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}: {each.name} must be finite, but got {value}")


def check_stored(identity: str, config: Json, named: Iterable[str], needed: Iterable[str]) -> None:
    """Raise ValueError that names the key if a record lacks what a run's folder needs: an identity, and files.

    An identity is part of the names of locks and folders, and computed from these settings.
    """
    if not _IDENTITY.fullmatch(identity):
        raise ValueError(f"identity must be 12 hexadecimal digits, but got {identity!r}")
    missing = sorted(set(needed) - set(named))
    if missing:
        raise ValueError(f"files must name {', '.join(missing)}, but has {sorted(named)}")
    for section in ("model", "adapt", "optics", "trainer"):
        if not isinstance(config.get(section), dict):
            raise ValueError(f"config.{section} must be an object, but got {str(config.get(section))[:80]!r}")
    if not isinstance(config.get("augment", 0), dict | None):
        raise ValueError(f"config.augment must be an object or null, but got {str(config.get('augment'))[:80]!r}")
