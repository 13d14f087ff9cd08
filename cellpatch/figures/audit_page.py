"""The page of an audit: crops of the cells in question, with what is doubtful about each."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cellpatch.runtime.plain_text import plain


@dataclass(frozen=True, kw_only=True)
class CellCard:
    """A cell on the page: base64 PNG of its crop, its labels, where it is; `partner` is the PNG of its copy, if any."""

    png: str
    label: str
    suggested: str
    words: str
    where: str
    partner: str = ""


@dataclass(frozen=True)
class Section:
    """The cells of one reason, the first of `total`; `key` is its anchor."""

    key: str
    heading: str
    explanation: str
    total: int
    cells: list[CellCard]


@dataclass(frozen=True)
class Flow:
    """How many cells of one label have another one suggested."""

    label: str
    suggested: str
    cells: int


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """All of the page; `notes` are sentences below the title."""

    title: str
    notes: list[str]
    flows: list[Flow]
    sections: list[Section]
    made: str


def render(page: AuditPage) -> str:
    """The page as one HTML file that loads nothing from elsewhere; every text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return plain(environment.get_template("audit.html.jinja").render(page=page))
