"""How messages look in a terminal, where Hydra does not set it up (conf/hydra/job_logging/console.yaml)."""

import logging
import sys


def log_to_terminal(level: int = logging.INFO) -> None:
    """Messages go to standard error, each after the time of day; without effect where logging is set up already."""
    logging.basicConfig(format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S", level=level, stream=sys.stderr)
