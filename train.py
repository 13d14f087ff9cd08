"""Train one model, or with -m a grid: python train.py -m model=customvit flag_limit=256,1024,16384."""

import sys
import warnings

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch.cli.hydra_main import command_folder, run_main
from cellpatch.cli.usage import exit_on_value_error, usage
from cellpatch.config.schema import CONF, register
from cellpatch.runs.outcome import format_outcome
from cellpatch.sweeps.jobs import run_job

register()
# Launchers' YAMLs in conf/ have the names of the plugins' own on purpose: Hydra 1.3 takes those as schemas.
warnings.filterwarnings("ignore", message=r"(?s).*is validated against ConfigStore schema")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    from cellpatch.sweeps.train import train  # torch and Lightning take seconds, --help should not

    with command_folder():
        if HydraConfig.get().mode == RunMode.RUN:
            outcome = exit_on_value_error(train, config)
            if config.dry_run:
                print(format_outcome(outcome))
        else:
            run_job(train, config)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(usage(CONF))
        sys.exit()
    run_main(main, "python train.py", sys.argv[1:])
