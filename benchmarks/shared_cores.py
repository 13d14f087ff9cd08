"""What does another program on the cores cost a training, and what do two trainings at once save?

    python benchmarks/shared_cores.py [--updates 120] [--repeats 3] [--json FILE]

A whole `python train.py` of cnn with threads as they come by default: beside a process that keeps one core busy against
alone; and two seeds by Hydra's joblib launcher with two jobs against one after the other (where hydra-joblib-launcher
is installed). For a machine of two cores; both numbers are seconds of whole commands.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from cells import store_of
from measured import ROOT, in_turn, option_parser, report, share_of_time


@contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    options = option_parser("Time trainings on cores that are shared.", updates=120, repeats=3).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), 20000)
        settings = ["model=cnn", "data.cells=20000", "flag_limit=64", f"adapt.updates={options.updates}"]
        settings += ["logger=none", "trainer.accelerator=cpu", "data.split.val_limit=16"]
        settings += [f"data.loading.store_dir={folder}/stores"]
        numbers = count()

        def run(*more: str) -> None:
            command = [sys.executable, "train.py", *more, *settings, f"runs_dir={folder}/runs{next(numbers)}"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603

        def beside() -> None:
            with busy_core():
                run()

        taken = in_turn(beside, run, options.repeats)
        results = [share_of_time("training beside a busy core", taken, 2.0)]
        if find_spec("hydra_plugins.hydra_joblib_launcher"):
            at_once = ["-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
            taken = in_turn(lambda: run(*at_once), lambda: run("-m", "seed=0,1"), options.repeats, warm_up=0)
            results.append(share_of_time("two trainings at once", taken, 0.6))
        else:
            print("two trainings at once: not measured, hydra-joblib-launcher is not installed", flush=True)
    report(results, options.json)


if __name__ == "__main__":
    main()
