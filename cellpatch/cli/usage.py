"""What train.py prints for --help, and how commands end on a user's error."""

import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

Result = TypeVar("Result")
INTERRUPTED = (
    "interrupted: the same command skips what is done and starts an unfinished training again; "
    "with trainer.resume=true a training continues from its last validation, if it had that setting before"
)
_USAGE = """\
usage: python train.py [-m] [GROUP=NAME ...] [KEY=VALUE ...]

Train one model, or with -m a grid: every combination of values that are separated by commas.

    python train.py model=cnn data=folder data.root=DIR
    python train.py -m model=customvit flag_limit=256,1024,16384
    python train.py -m model=cnn,customvit flag_limit=256,1024 seed=0,1,2 dry_run=true

Groups and their names; GROUP.KEY=VALUE changes one key of what is chosen:

{groups}

Keys, as in conf/config.yaml:

{keys}

--cfg job prints the whole config that a command makes, --hydra-help Hydra's own flags.
"""


def exit_on_value_error(work: Callable[[DictConfig], Result], config: DictConfig) -> Result:
    """Do the work; a ValueError, or Ctrl-C, ends the command with its message, without a traceback."""
    try:
        return work(config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def usage(conf: Path) -> str:
    """The text of --help, from the YAML files in `conf`: Hydra's own takes a second and leaves out comments."""
    names: dict[str, list[str]] = {}
    for file in sorted(conf.glob("*/**/*.yaml")):
        group = file.parent.relative_to(conf).as_posix()
        if not group.startswith("hydra/job"):
            names.setdefault(group, []).append(file.stem)
    width = max(map(len, names)) + 4
    groups = [
        textwrap.fill(" ".join(choices), 100, initial_indent=f"  {group}".ljust(width), subsequent_indent=" " * width)
        for group, choices in names.items()
    ]
    keys = re.findall(r"^(\w+: .*)$", (conf / "config.yaml").read_text(encoding="utf-8"), re.M)
    return _USAGE.format(groups="\n".join(groups), keys="\n".join(f"  {line}" for line in keys))
