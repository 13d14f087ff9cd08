"""The features of a GeoJSON file one after another: Python's objects of a million take twelve times their text."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

from cellpatch.data.annotations.files import read_json, unique_members

Item = TypeVar("Item")
_READ = 2**20  # characters
_AHEAD = 64  # characters behind a value: it is whole, and no number that goes on
_BLANKS = re.compile(r"[ \t\n\r]*")
_UNREADABLE = (ValueError, OSError, EOFError, zlib.error, RecursionError)


class Features:
    """The features of a list, or of a collection; each pass reads the file again.

    `members` are the others of the collection, complete after the first pass; None of a list. A pass raises ValueError
    if the file is no JSON, or was changed since it was opened.
    """

    def __init__(self, file: Path) -> None:
        self.members: dict[str, object] | None = None
        self._file = file
        self._state = _state(file)

    def __iter__(self) -> Iterator[object]:
        if _state(self._file) != self._state:
            raise ValueError(f"{self._file}: was changed while it was in use; start again")
        try:
            with _open_text(self._file) as stream:
                text = _Text(stream)
                if text.peek() == "[":
                    yield from text.array()
                else:
                    yield from self._of_collection(text)
                if text.peek():
                    raise ValueError("it goes on behind its end")
        except _UNREADABLE as error:
            read_json(self._file)  # which raises with the line
            raise ValueError(f"{self._file}: is not readable as GeoJSON ({error})") from error

    def _of_collection(self, text: "_Text") -> Iterator[object]:
        members: dict[str, object] = {}
        for name in text.names():
            if name == "features" not in members:
                yield from text.array()
                value: object = []
            else:
                value = text.value()
            if members.setdefault(name, value) != value:
                raise ValueError(f"the key {name!r} has two values in one object")
        del members["features"]
        self.members = members


def open_features(file: Path) -> object:
    """`Features` of a list or a collection; another document as a whole. Raises ValueError if the file is no JSON."""
    try:
        with _open_text(file) as stream:
            text = _Text(stream)
            if text.peek() == "[":
                return Features(file)
            for name in text.names():
                if name == "features" and text.peek() == "[":
                    return Features(file)
                text.value()
    except _UNREADABLE:
        pass
    return read_json(file)


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@contextmanager
def _open_text(file: Path) -> Iterator[TextIOWrapper]:
    """A file as `read_json` decodes it."""
    with file.open("rb") as raw:
        compressed = raw.peek(2)[:2] == b"\x1f\x8b"
        with gzip.GzipFile(fileobj=raw) if compressed else nullcontext(raw) as stream:
            utf16 = stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
            yield TextIOWrapper(stream, "utf-16" if utf16 else "utf-8-sig", newline="")


class _Text:
    """A JSON text of which a part is in memory, and where its next value begins; raises ValueError for another text."""

    def __init__(self, stream: TextIOWrapper) -> None:
        self._stream = stream
        self._part, self._at, self._ended = "", 0, False
        self._decode = json.JSONDecoder(object_pairs_hook=unique_members).raw_decode

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            blanks = _BLANKS.match(self._part, self._at)
            assert blanks is not None
            self._at = blanks.end()
            if self._at < len(self._part) or self._ended:
                return self._part[self._at : self._at + 1]
            self._read()

    def value(self) -> object:
        """The value that begins here, read as far as it goes."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._part, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                if self._ended or end + _AHEAD < len(self._part):
                    self._at = end
                    return value
            self._read()

    def array(self) -> Iterator[object]:
        """The values of the array that begins here."""
        return self._items("[", self.value, "]")

    def names(self) -> Iterator[str]:
        """The names of the members of the object that begins here; who takes a name takes its value next."""
        return self._items("{", self._name, "}")

    def _items(self, begin: str, read: Callable[[], Item], end: str) -> Iterator[Item]:
        self._take(begin)
        if self.peek() != end:
            yield read()
        while self.peek() == ",":
            self._take(",")
            yield read()
        self._take(end)

    def _name(self) -> str:
        name = self.value()
        if not isinstance(name, str):
            raise ValueError(f"a name was expected, not {name}")
        self._take(":")
        return name

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"{character} was expected")
        self._at += 1

    def _read(self) -> None:
        """Read more; the longer a value, the more at once."""
        rest = self._part[self._at :]
        more = self._stream.read(max(_READ, len(rest)))
        self._part, self._at, self._ended = rest + more, 0, not more
