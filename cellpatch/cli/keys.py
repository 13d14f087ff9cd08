"""Every key of conf/ with the comment that explains it."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GROUPS = ("data", "model", "adapt", "augment", "optics", "trainer", "logger")
_KEY = re.compile(r"^( *)([A-Za-z]\w*):(?: +([^#]*?))?(?: +# *(.*))?$")
_PARENT = re.compile(r"^  - (\w+)$", re.MULTILINE)
_OPEN = {"options", "strides"}  # keys whose own keys are timm's
_INDENT = 34  # columns of a key's name
_WIDTH = 100
MANY = 5  # choices that are named beside a key


class Key(NamedTuple):
    """A key of a config group, what explains it, and the choices that have it with this explanation (none: all)."""

    name: str
    comment: str
    choices: list[str]


def keys(conf: Path, group: str) -> list[Key]:
    """The keys of a group's files, in their order, by their dotted names.

    A file that has no comment on a key has the others' one. Raises ValueError where they have none, or several. A file
    that extends another one of its group has its keys; comments there on such a key are about the value.
    """
    found: list[Key] = []
    for folder in [conf / group, *sorted(path for path in (conf / group).iterdir() if path.is_dir())]:
        comments: dict[str, dict[str, list[str]]] = {}
        for file in sorted(folder.glob("*.yaml"), key=lambda file: (bool(_parents(file)), file)):
            parents = [dict(own_keys(parent)) for parent in _parents(file)]
            inherited = {name: comment for parent in parents for name, comment in parent.items()}
            for name, comment in (dict(own_keys(file)) | inherited).items():
                if not (folder / name.partition(".")[0]).is_dir():  # a choice of a group below, with some of its values
                    comments.setdefault(name, {}).setdefault(comment, []).append(file.stem)
        prefix = ".".join(folder.relative_to(conf).parts)
        count = len(list(folder.glob("*.yaml")))
        for name, of_name in comments.items():
            for comment, choices in _explained(f"{prefix}.{name}", of_name):
                found.append(Key(f"{prefix}.{name}", comment, choices if len(choices) < count else []))
    return found


def _explained(name: str, comments: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    files = comments.pop("", [])
    if files and len(comments) != 1:
        raise ValueError(f"{name} of {', '.join(files)}: needs a comment; others have {list(comments) or 'none'}")
    return [(comment, sorted([*having, *files])) for comment, having in comments.items()]


def _parents(file: Path) -> list[Path]:
    """The files of its group that a file extends."""
    names = _PARENT.findall(file.read_text(encoding="utf-8"))
    return [file.with_name(f"{name}.yaml") for name in names if name != "_self_"]


def own_keys(file: Path) -> Iterator[tuple[str, str]]:
    """Dotted names and comments of a file's keys that have a value."""
    path: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if (match := _KEY.match(line)) is None:
            continue
        path = [*(part for part in path if part[0] < len(match[1])), (len(match[1]), match[2])]
        names = [name for _, name in path]
        if names[0] in ("defaults", "hydra", "name") or _OPEN & set(names[:-1]) or not (match[3] or names[-1] in _OPEN):
            continue
        yield ".".join(names), match[4] or ""


def describe_groups(conf: Path) -> str:
    """Lines for people: each group's choices with what they are, and each key with what explains it."""
    parts = []
    for group in GROUPS:
        files = sorted((conf / group).glob("*.yaml"))
        lines = [format_entry(f"{group}={file.stem}", title(file)) for file in files]
        for key in keys(conf, group):
            few = f" ({', '.join(key.choices)})" if 0 < len(key.choices) <= MANY else ""
            lines.append(format_entry(key.name, f"{key.comment}{few}"))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def title(file: Path) -> str:
    """The first sentence of a file's first comment; no text if it has none."""
    comments = re.findall(r"^# (?!@)(.*)", file.read_text(encoding="utf-8"), re.MULTILINE)
    first = comments[0] if comments else ""
    return re.split(r"[.:;] |[.?]?$", first, maxsplit=1)[0]


def format_entry(name: str, text: str) -> str:
    """A line for people, or several: a name, and what explains it."""
    start = f"  {name}".ljust(_INDENT) + "  "
    indent = " " * len(start.rjust(_INDENT + 2))
    first = f"  {name}\n{indent}" if len(name) > _INDENT - 2 else start
    body = textwrap.fill(text, _WIDTH - len(indent), break_on_hyphens=False, break_long_words=False)
    return first + body.replace("\n", f"\n{indent}")
