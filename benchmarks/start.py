"""How long until a command answers, and until it trains?

    python benchmarks/start.py [--repeats 7] [--json FILE]

* help: `python train.py --help` against `python -c "import hydra"`;
* first step: `python train.py` on a prepared store until its first training step has been taken, against importing
  torch and Lightning.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cells import store_of
from measured import ROOT, in_turn, option_parser, report, share_of_time

STOP_AT_FIRST_STEP = """
import os, runpy, sys
import pytorch_lightning as pl
from cellpatch.training.lightning_module import Classifier
def stop(*_): os._exit(0)
Classifier.on_train_batch_end = stop
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path("train.py", run_name="__main__")
"""


def run(*arguments: str) -> Callable[[], object]:
    """Python with these arguments, in the checkout."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603


def main() -> None:
    options = option_parser("Time the start of commands.", repeats=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), 20000)
        settings = ["model=cnn", "data.cells=20000", "logger=none", f"runs_dir={folder}/runs"]
        settings += [f"data.loading.store_dir={folder}/stores", "trainer.accelerator=cpu"]
        answers = in_turn(run("train.py", "--help"), run("-c", "import hydra"), options.repeats)
        begins = in_turn(
            run("-c", STOP_AT_FIRST_STEP, *settings), run("-c", "import torch, pytorch_lightning"), options.repeats
        )
    results = [share_of_time("start, --help", answers, 3.0), share_of_time("start, first step", begins, 1.3)]
    report(results, options.json)


if __name__ == "__main__":
    main()
