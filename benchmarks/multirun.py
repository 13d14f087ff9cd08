"""What does a grid save over separate commands?

    python benchmarks/multirun.py [--runs 20] [--repeats 1] [--json FILE]

Twenty short trainings on synthetic cells as one `python train.py -m`, against twenty times `python train.py`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import store_of
from measured import ROOT, in_turn, option_parser, report, share_of_time


def main() -> None:
    options = option_parser("Time a grid against separate commands.", runs=20, repeats=1).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), 20000)
        settings = ["model=cnn", "data.cells=20000", "flag_limit=8", "trainer.max_epochs=2", "logger=none"]
        settings += ["trainer.accelerator=cpu", "data.split.val_limit=16", f"data.loading.store_dir={folder}/stores"]

        def run(*more: str) -> None:
            command = [sys.executable, "train.py", *more, *settings, f"runs_dir={folder}/runs"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603

        def grid() -> None:
            shutil.rmtree(f"{folder}/runs", ignore_errors=True)
            run("-m", f"seed=range({options.runs})")

        def commands() -> None:
            shutil.rmtree(f"{folder}/runs", ignore_errors=True)
            for seed in range(options.runs):
                run(f"seed={seed}")

        taken = in_turn(grid, commands, options.repeats, warm_up=0)
    report([share_of_time("grid", taken, 0.5)], options.json)


if __name__ == "__main__":
    main()
