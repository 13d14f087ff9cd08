"""What `cellpatch train` prints for --help, and how commands end on a user's error."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

from cellpatch.cli.keys import describe_groups, format_entry, own_keys, title
from cellpatch.runtime.plain_text import plain

Result = TypeVar("Result")
_USAGE = """\
usage: cellpatch train [-m] [GROUP=NAME ...] [KEY=VALUE ...]        (python train.py is the same)

Train one model, or with -m a grid: every combination of values that are separated by commas.

    cellpatch train model=cnn data=folder data.root=DIR
    cellpatch train -m model=customvit flag_limit=256,1024,16384
    cellpatch train -m model=cnn,customvit flag_limit=256,1024 seed=0,1,2 dry_run=true

Top level:

{top}

{groups}

experiment=NAME is a grid that is already written down:

{experiments}

hydra/launcher={launchers} runs the jobs of a grid elsewhere (docs/grids.md).
--cfg job prints the whole config that a command makes, --hydra-help Hydra's own flags.
"""


def exit_on_value_error(work: Callable[[DictConfig], Result], config: DictConfig) -> Result:
    """Do the work; a ValueError ends the command with its message, without a traceback."""
    try:
        return work(config)
    except ValueError as error:
        sys.exit(plain(f"error: {error}"))


def usage(conf: Path) -> str:
    """The text of --help, from the YAML files in `conf`: Hydra's own takes a second and leaves out comments."""
    return _USAGE.format(
        top="\n".join(format_entry(name, comment) for name, comment in own_keys(conf / "config.yaml")),
        groups=describe_groups(conf),
        experiments="\n".join(
            format_entry(f"experiment={file.stem}", title(file))
            for file in sorted((conf / "experiment").glob("*.yaml"))
        ),
        launchers="|".join(sorted(file.stem for file in (conf / "hydra" / "launcher").glob("*.yaml"))),
    )
