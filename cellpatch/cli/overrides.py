"""Settings on the command line as people type them: Hydra's grammar gives a meaning to ( , = [ and others."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellpatch.config.schema import CONF

# Settings that are paths, or patterns of paths: their value is text, whatever it looks like.
PATHS = {
    "runs_dir",
    "weights_dir",
    "data.root",
    "data.points",
    "data.specimens",
    "data.table",
    "data.file",
    "data.loading.store_dir",
    "data.loading.embeddings_dir",
    "model.weights.file",
}
_SYNTHETIC = "data.specimens"  # of data=synthetic it is a number
_WHOLE = re.compile(r"'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"", re.DOTALL)  # in quotes from end to end


def prepare_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments with each value in quotes that Hydra's grammar cannot read, such as `/data/Slides (2024)`.

    Lists and quoted values stay as they are. The value of a setting in PATHS is one path, whatever letters it has; with
    -m it is several, by commas, unless something exists there. Another value with commas is a path, not several
    values, if something exists there, or with one run if it has a slash. `data.split=by_site` chooses a file as
    `data/split=by_site` does.
    """
    multirun = bool({"-m", "--multirun"} & set(arguments))
    return [_prepared(_chosen(argument), multirun) for argument in arguments]


def _chosen(argument: str) -> str:
    """GROUP.SUBGROUP=NAME as Hydra takes it, where conf/GROUP/SUBGROUP holds files."""
    match = re.fullmatch(r"(\w+)\.(\w+)=([\w,]+)", argument)
    if match is None or not (CONF / match[1] / match[2]).is_dir():
        return argument
    return f"{match[1]}/{match[2]}={match[3]}"


def _prepared(argument: str, multirun: bool) -> str:
    match = re.fullmatch(r"(\+{0,2})([\w./@]+)=(.+)", argument, re.DOTALL)
    if match is None:
        return argument
    plus, key, value = match.groups()
    if key in PATHS:
        return f"{plus}{key}={_path(key, value, multirun)}"
    return argument if _is_taken(key, value, multirun) else f"{plus}{key}={quote(value)}"


def quote(value: str) -> str:
    """A value in the quotes that Hydra's grammar takes off again."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes count only before a quote
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def _path(key: str, given: str, multirun: bool) -> str:
    """The value of a path: in quotes where Hydra would read anything but this text."""
    value = _at_home(given)
    if not os.path.lexists(value):
        if value == "null" or _WHOLE.fullmatch(value) or (key == _SYNTHETIC and value.isdecimal()):
            return value
        if multirun and _is_sweep(key, value):
            return value
        paths = [_at_home(each) for each in value.split(",")]
        if multirun and len(paths) > 1 and all(map(os.path.lexists, paths)):
            return ",".join(_path(key, each, multirun=False) for each in paths)
    return value if _read(key, value) == value else quote(value)


def _at_home(value: str) -> str:
    """A path with the home folder in place of a `~`, which a shell leaves as it is inside KEY=VALUE."""
    if not value.startswith("~") or os.path.lexists(value):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError:  # no user of that name
        return value


def _is_taken(key: str, value: str, multirun: bool) -> bool:
    """Whether Hydra takes a value as the user means it."""
    exists = os.path.lexists(_at_home(value))
    override = _parsed(key, value)
    if override is None:
        return False
    if value[0] in "'\"[{" and not exists:
        return True
    is_path = exists or (not multirun and "/" in value)
    return not override.is_sweep_override() or not is_path


def _read(key: str, value: str) -> object:
    """One value as Hydra reads it; None for several, and for what it cannot read."""
    override = _parsed(key, value)
    return None if override is None or override.is_sweep_override() else override.value()


def _is_sweep(key: str, value: str) -> bool:
    override = _parsed(key, value)
    return override is not None and override.is_sweep_override()


def _parsed(key: str, value: str) -> Any:
    """Hydra's Override; None if its grammar cannot read the value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # Hydra imports it anyway, --help does not
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        return None
