"""Train one model, or with -m a grid: python train.py -m model=customvit flag_limit=256,1024,16384."""

import logging
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cellpatch.config import register

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    from cellpatch.training import train  # torch and Lightning take seconds, --help should not

    try:
        train(config)
    except ValueError as error:
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(f"error: {error}")  # what the user has to mend, without a stack of calls
        logging.getLogger(__name__).error("failed: %s", error)  # Hydra shows the first failure only, at the end
        raise


if __name__ == "__main__":
    main()
