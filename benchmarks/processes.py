"""How much faster are eight processes on one grid than one, and does any run get trained twice?

    python benchmarks/processes.py [--processes 8] [--runs 16] [--epochs 6]

Starts the same grid of short runs on synthetic cells as one process and as many at once, one thread each, and prints
the seconds of both. Ends with status 1 if a run was trained twice or not at all.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def seconds_of(processes: int, runs: int, epochs: int, folder: Path) -> float:
    """Seconds until all processes that were given the grid have ended."""
    command = [sys.executable, "train.py", "-m", "model=cnn", "data.cells=4000", "flag_limit=64", "logger=none"]
    command += [f"seed=range({runs})", f"trainer.max_epochs={epochs}", f"runs_dir={folder}/runs-{processes}"]
    command += [f"data.loading.store_dir={folder}/stores"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = time.perf_counter()
    started_processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]  # noqa: S603
        for _ in range(processes)
    ]
    outputs = [process.communicate()[0] for process in started_processes]
    seconds = time.perf_counter() - started
    trained = [int(number) for output in outputs for number in re.findall(r"(\d+) trained", output)]
    if sum(trained) != runs or any(process.returncode for process in started_processes):
        sys.exit(f"{processes} processes trained {trained} of {runs} runs")
    print(f"{processes} processes: {seconds:.0f} s, each trained {trained} of {runs} runs", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603
            [
                sys.executable,
                "-m",
                "cellpatch.data.prepare",
                "data.cells=4000",
                f"data.loading.store_dir={folder}/stores",
            ],
            cwd=ROOT,
            check=True,
        )
        alone = seconds_of(1, options.runs, options.epochs, Path(folder))
        several = seconds_of(options.processes, options.runs, options.epochs, Path(folder))
    print(f"on {os.cpu_count()} cores: {alone / several:.2f} times as fast")


if __name__ == "__main__":
    main()
