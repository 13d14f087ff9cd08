"""Class names as people write them: cleaned, and joined where two spellings mean one class."""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence

from cellpatch.data.store.intake import Intake

_MISSING = {"", "nan", "none", "null", "na", "n/a", "<na>"}


def clean_name(value: object) -> str:
    """A name in Unicode's NFC, with single blanks inside and none around; a whole number has no decimals."""
    text = " ".join(unicodedata.normalize("NFC", str(value)).split())
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def is_missing(value: object) -> bool:
    """Whether a value is empty, or the text that a program writes for a missing one: nan, None, null, NA, N/A."""
    return value is None or value != value or clean_name(value).casefold() in _MISSING


def join_names(names: Sequence[Hashable], intake: Intake) -> list[str]:
    """The class of each cell after cleaning; the order of a derived class's parts (`CD8: CD103`) does not count.

    Of several orders the most frequent one is kept. What was joined, and classes that differ only by case, blanks, `-`
    or `_`, are counted in `intake`.
    """
    counts = Counter(names)
    cleaned = {name: clean_name(name) for name in counts}
    spellings: dict[tuple[str, ...], Counter[str]] = {}
    for name, count in counts.items():
        parts = tuple(sorted(part.strip() for part in cleaned[name].split(":")))
        spellings.setdefault(parts, Counter())[cleaned[name]] += count
    chosen: dict[str, str] = {}
    for same in spellings.values():
        best = max(sorted(same), key=lambda spelling: same[spelling])
        chosen |= dict.fromkeys(same, best)
    joined = {name: chosen[cleaned[name]] for name in counts}
    for name, count in counts.items():
        if str(name) != joined[name]:
            intake.joined[f"cells of class {str(name)!r} with {joined[name]!r}"] += count
    _doubt_similar(Counter(joined[name] for name in names), intake)
    return [joined[name] for name in names]


def _doubt_similar(counts: Counter[str], intake: Intake) -> None:
    similar: dict[str, list[str]] = {}
    for name in sorted(counts):
        similar.setdefault(re.sub(r"[\s_-]", "", name).casefold(), []).append(name)
    for names in similar.values():
        if len(names) > 1:
            shown = " and ".join(map(repr, names))
            reason = (
                f"cells of classes {shown}, which differ only by case, blanks, - or _: one class (data.class_names)?"
            )
            intake.doubtful[reason] += sum(counts[name] for name in names)
