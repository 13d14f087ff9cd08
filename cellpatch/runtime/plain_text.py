"""Text from files on its way to a screen, a page or a spreadsheet."""

import re

# Control characters that are not white space, bidirectional overrides, and halves of characters (names not in UTF-8).
_UNSAFE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether a text has no character that steers a terminal, hides another or is not Unicode."""
    return _UNSAFE.search(text) is None


def plain(text: str) -> str:
    """The text with each character that `is_plain` rejects as its escape, such as `\\x1b`."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
