"""Settings as they are typed in a shell, for messages that propose one."""

import re
import shlex
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*|0|[1-9][0-9]*")  # words and whole numbers
_VALUES = {"null", "true", "false", "nan", "inf"}  # Hydra reads them as something else than a name, in any case


def typed_list(key: str, names: Iterable[str]) -> str:
    """`'KEY=[NAME,...]'` in quotes for a shell; names that Hydra would not read as text are in double quotes."""
    return shlex.quote(f"{key}=[{','.join(map(_item, names))}]")


def _item(name: str) -> str:
    if _PLAIN.fullmatch(name) and name.lower() not in _VALUES:
        return name
    escaped = re.sub(r'(\\*)("|$|\$\{)', lambda match: match[1] * 2 + _escaped(match[2]), name)
    return f'"{escaped}"'


def _escaped(found: str) -> str:
    return f"\\{found}" if found else ""
