"""Train one model, or with -m a grid: python train.py -m model=customvit flag_limit=256,1024,16384."""

import hydra
from omegaconf import DictConfig

from cellpatch.command import guard
from cellpatch.config import register

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    from cellpatch.training import train  # torch and Lightning take seconds, --help should not

    guard(train, config)


if __name__ == "__main__":
    main()
