"""What does a run of a grid cost beyond its training, and does the process that does a hundred of them grow?

    python benchmarks/grid.py [--runs 100] [--logger wandb]

Trains a small CNN for two epochs on synthetic cells, again and again in one process with other seeds, as Hydra's basic
launcher does. Prints memory (resident), open files and the seconds of each run that are not training: store, split,
W&B offline, evaluation, record. Linux alone.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from cellpatch.config.schema import compose_config
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.table import runs_table
from cellpatch.sweeps.train import train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--logger", default="wandb", choices=["wandb", "none"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["model=cnn", "data.cells=2000", "flag_limit=16", "trainer.max_epochs=2", f"logger={options.logger}"]
        fixed += [f"runs_dir={folder}/runs", f"data.loading.store_dir={folder}/stores", "trainer.accelerator=cpu"]
        beyond, memory, files = [], [], []
        for seed in range(options.runs):
            started = time.perf_counter()
            outcome = train(compose_config([*fixed, f"seed={seed}"]))
            seconds = time.perf_counter() - started
            beyond.append(seconds - StoredRun.open(Path(folder) / "runs" / outcome.run).record.seconds.train)
            memory.append(_resident_mib())
            files.append(len(list(Path("/proc/self/fd").iterdir())))
            print(f"run {seed + 1}: {memory[-1]:.0f} MiB, {files[-1]} files, {beyond[-1]:.2f} s", file=sys.stderr)
        size = sum(file.stat().st_size for file in Path(folder, "runs").rglob("*") if file.is_file()) / 2**20
        n = len(runs_table(Path(folder) / "runs"))
    at = sorted({0, 1, 4, 9, *range(19, options.runs, 20), options.runs - 1})
    print(f"\n{n} runs on {os.cpu_count()} cores, logger={options.logger}, {size / n:.2f} MiB a run on disk")
    print("| after run | resident MiB | open files |\n|---|---|---|")
    print("\n".join(f"| {i + 1} | {memory[i]:.0f} | {files[i]} |" for i in at if i < options.runs))
    later = sorted(beyond[1:])
    print(f"seconds beyond training: first run {beyond[0]:.2f}, then median {median(later):.2f}, most {later[-1]:.2f}")
    half = len(memory) // 2
    print(f"growth over the second half: {(memory[-1] - memory[half]) / (len(memory) - 1 - half):.3f} MiB a run")


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
