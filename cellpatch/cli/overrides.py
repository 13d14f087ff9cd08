"""Settings on the command line as people type them: Hydra's grammar gives a meaning to ( , = [ and others."""

import re
from collections.abc import Sequence
from pathlib import Path

_PATHS = (
    "data.root|data.points|data.table|data.file|data.specimens|runs_dir|data.loading.store_dir|"
    "data.loading.embeddings_dir|model.weights.file"
)


_GROUPS_IN_GROUPS = re.compile(r"data\.(split|loading|costs)=([A-Za-z_,]+)")


def prepare_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of path settings in quotes, so that Hydra takes them as they are.

    A value that is quoted already, or a list, is left. With several runs (-m) a comma separates values, unless the
    whole value is the path of something that exists. `data.split=by_site` chooses a file as `data/split=by_site` does.
    """
    multirun = bool({"-m", "--multirun"} & set(arguments))
    chosen = [_GROUPS_IN_GROUPS.sub(r"data/\1=\2", argument) for argument in arguments]
    return [_quoted(argument, multirun) for argument in chosen]


def _quoted(argument: str, multirun: bool) -> str:
    match = re.fullmatch(rf"(\+{{0,2}}(?:{_PATHS}))=(.+)", argument, re.DOTALL)
    if match is None:
        return argument
    key, value = match.groups()
    is_list = value.startswith("[") and value.endswith("]") and not Path(value).expanduser().exists()
    if value[0] in "'\"" or value in ("null", "???") or "${" in value or is_list:
        return argument
    if multirun and "," in value and not Path(value).expanduser().exists():
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes count only before a quote
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{key}='{escaped}'"
