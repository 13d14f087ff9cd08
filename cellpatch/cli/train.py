"""Train one model, or with -m a grid: cellpatch train -m model=customvit flag_limit=256,1024,16384."""

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch.cli.hydra_main import command_folder, run_main
from cellpatch.cli.usage import exit_on_value_error, usage
from cellpatch.config.schema import CONF, register
from cellpatch.runs.outcome import format_outcome
from cellpatch.sweeps.jobs import run_job

_INTERRUPTED = (
    "interrupted: the same command skips what is done and starts an unfinished training again; with "
    "trainer.resume=true it continues from its last validation (if it was started with that setting)"
)

register()  # Hydra needs the schema


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the arguments (of the command line, if None) describe."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(usage(CONF))
        return
    is_script = Path(sys.argv[0]).name == "train.py"
    try:
        run_main(_train, "python train.py" if is_script else "cellpatch train", arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_INTERRUPTED) from None


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _train(config: DictConfig) -> None:
    from cellpatch.sweeps.train import train  # torch and Lightning take seconds, --help should not

    with command_folder():
        if HydraConfig.get().mode == RunMode.RUN:
            outcome = exit_on_value_error(train, config)
            if config.dry_run:
                print(format_outcome(outcome))
        else:
            run_job(train, config)
