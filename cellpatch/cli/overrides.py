"""Settings on the command line as people type them: Hydra's grammar gives a meaning to ( , = [ and others."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cellpatch.config.schema import CONF


def prepare_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments with each value in quotes that Hydra's grammar cannot read, such as `/data/Slides (2024)`.

    Lists and quoted values stay as they are. A value with commas is a path, not several values, if something exists
    there, or with one run if it has a slash. `data.split=by_site` chooses a file as `data/split=by_site` does.
    """
    multirun = bool({"-m", "--multirun"} & set(arguments))
    return [_quoted(_chosen(argument), multirun) for argument in arguments]


def _chosen(argument: str) -> str:
    """GROUP.SUBGROUP=NAME as Hydra takes it, where conf/GROUP/SUBGROUP holds files."""
    match = re.fullmatch(r"(\w+)\.(\w+)=([\w,]+)", argument)
    if match is None or not (CONF / match[1] / match[2]).is_dir():
        return argument
    return f"{match[1]}/{match[2]}={match[3]}"


def _quoted(argument: str, multirun: bool) -> str:
    match = re.fullmatch(r"(\+{0,2}[\w./@]+)=(.+)", argument, re.DOTALL)
    if match is None or _is_taken(match[1], match[2], multirun):
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", match[2])  # backslashes count only before a quote
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{match[1]}='{escaped}'"


def _is_taken(key: str, value: str, multirun: bool) -> bool:
    """Whether Hydra takes a value as the user means it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # Hydra imports it anyway, --help does not
    from hydra.errors import HydraException

    exists = os.path.lexists(Path(value).expanduser())
    if value[0] in "'\"[{" and not exists:
        return True
    try:
        override = OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        return False
    is_path = exists or (not multirun and "/" in value)
    return not override.is_sweep_override() or not is_path
