"""What a check found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fail"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """A row of the table: `note` is worth knowing, `fail` stops trainings; `advice` states what to do."""

    name: str
    state: State
    found: str
    advice: str = ""
