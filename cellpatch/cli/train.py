"""Train one model, or with -m a grid: cellpatch train -m model=customvit flag_limit=256,1024,16384."""

import sys
import warnings
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch.cli.launchers import check_launchers
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.cli.usage import INTERRUPTED, exit_on_value_error, usage
from cellpatch.config.schema import CONF, check_renamed, register
from cellpatch.runs.outcome import format_outcome
from cellpatch.sweeps.jobs import run_job

# Processes of launchers import this module for `_train`; they and Hydra here need the schema.
register()
# Launchers' YAMLs in conf/ have the names of the plugins' own on purpose: Hydra 1.3 takes those as schemas.
warnings.filterwarnings("ignore", message=r"(?s).*is validated against ConfigStore schema")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the arguments (of the command line, if None) describe."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(usage(CONF))
        return
    sys.argv[1:] = prepare_overrides(arguments)
    try:
        check_renamed(sys.argv[1:])
        check_launchers(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    try:
        _train()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _train(config: DictConfig) -> None:
    from cellpatch.sweeps.train import train  # torch and Lightning take seconds, --help should not

    if HydraConfig.get().mode == RunMode.RUN:
        outcome = exit_on_value_error(train, config)
        if config.dry_run:
            print(format_outcome(outcome))
    else:
        run_job(train, config)
