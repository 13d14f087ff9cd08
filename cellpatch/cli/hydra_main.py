"""How commands with a Hydra config start and end: values as typed, the folder as given, one message for a mistake."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

from cellpatch.cli.launchers import check_launchers
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.mistakes import HYDRA_ERRORS, explain
from cellpatch.config.schema import check_overrides
from cellpatch.runtime.plain_text import plain

# Launchers' YAMLs in conf/ have the names of the plugins' own on purpose: Hydra 1.3 takes those as schemas, and warns
# here and in each worker, which imports this module before it composes its job.
warnings.filterwarnings("ignore", message=r"(?s).*is validated against ConfigStore schema")

_FULL_ERROR = "HYDRA_FULL_ERROR"  # set by users who want Hydra's own words and its traceback


def run_main(main: Callable[[], None], program: str, arguments: Sequence[str]) -> None:
    """Run a function of `hydra.main` with a command's arguments; what Hydra refuses ends it with one message.

    `program` is what the user typed before the arguments.
    """
    sys.argv[1:] = prepare_overrides(arguments)
    try:
        check_overrides(sys.argv[1:])
        check_launchers(sys.argv[1:])
    except ValueError as error:
        sys.exit(plain(f"error: {error}"))
    if os.environ.get(_FULL_ERROR):
        main()
        return
    os.environ[_FULL_ERROR] = "1"  # else Hydra prints the error itself, and exits
    try:
        main()
    except (*HYDRA_ERRORS, ValueError) as error:
        sys.exit(plain(f"error: {explain(error, arguments, program)}"))
    finally:
        del os.environ[_FULL_ERROR]


@contextlib.contextmanager
def command_folder() -> Iterator[None]:
    """Work in the folder where the command was given: with hydra.job.chdir=true Hydra enters another one."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    if not hydra.job.chdir:
        yield
        return
    with contextlib.chdir(hydra.runtime.cwd):
        yield
