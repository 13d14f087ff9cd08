"""What our commands say: their usage, what the user has to mend, the files that they made."""

import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

Done = TypeVar("Done")


def exit_on_value_error(work: Callable[[DictConfig], Done], config: DictConfig) -> Done:
    """Do the work; a ValueError, or Ctrl-C, ends the command with its message, without a stack of calls."""
    try:
        return work(config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


INTERRUPTED = "interrupted: the same command goes on where it stopped"
_USAGE = """\
usage: python train.py [-m] [GROUP=NAME ...] [KEY=VALUE ...]

Train one model, or with -m a grid: each of several values, by commas, with each.

    python train.py model=cnn data=folder data.root=DIR
    python train.py -m model=customvit flag_limit=256,1024,16384
    python train.py -m model=cnn,customvit flag_limit=256,1024 seed=0,1,2 dry_run=true

Groups and their names; GROUP.KEY=VALUE changes one key of what is chosen:

{groups}

Keys, as in conf/config.yaml:

{keys}

--cfg job prints the whole config that a command makes, --hydra-help Hydra's own flags.
"""


def usage(conf: Path) -> str:
    """What --help says, of the YAML files in `conf`; Hydra's own lists them a second long and leaves out comments."""
    names: dict[str, list[str]] = {}
    for file in sorted(conf.glob("*/**/*.yaml")):
        group = file.parent.relative_to(conf).as_posix()
        if not group.startswith("hydra/job"):
            names.setdefault(group, []).append(file.stem)
    width = max(map(len, names)) + 4
    groups = [
        textwrap.fill(" ".join(of), 100, initial_indent=f"  {group}".ljust(width), subsequent_indent=" " * width)
        for group, of in names.items()
    ]
    keys = re.findall(r"^(\w+: .*)$", (conf / "config.yaml").read_text(encoding="utf-8"), re.M)
    return _USAGE.format(groups="\n".join(groups), keys="\n".join(f"  {line}" for line in keys))
