"""How long does a run of a grid take beside its training and its predictions?

    python benchmarks/run_overhead.py [--runs 8] [--json FILE]

Grids of short runs on synthetic cells, `python train.py -m seed=range(N)`: a small CNN with W&B offline, and a linear
probe on efficientnet_lite0 whose features are kept, without W&B and with it. A run takes from the end of the job before
it to its own, so what Hydra does for it counts. From that go the seconds that its record states for training (the fit
with its validations) and evaluation (predictions of validation and test cells, their temperature and scores). The first
run, which imports and embeds, is left out.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cells import store_of
from measured import ROOT, Measured, option_parser, report

from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun

PROBE = ["model=efficientnet_lite0", "flag_limit=64"]
GRIDS = {
    "cnn, W&B": (["model=cnn", "flag_limit=16", "trainer.max_epochs=2", "logger=wandb"], 0.6),
    "probe, features kept": ([*PROBE, "logger=none"], 0.4),
    "probe, features kept, W&B": ([*PROBE, "logger=wandb"], None),
}


def beyond_training(runs_dir: Path) -> tuple[list[float], list[float]]:
    """Seconds of each run but the first, in the order of jobs: beside training and evaluation, and of all."""
    seconds = {run.name: StoredRun.open(run).record.seconds for run in finished_runs(runs_dir)}
    outcomes = sorted(runs_dir.glob(".hydra/*/[0-9]*.json"))
    taken = np.diff([file.stat().st_mtime for file in outcomes]).tolist()
    runs = [json.loads(file.read_text())["run"] for file in outcomes[1:]]
    trained = [seconds[run].train + seconds[run].evaluate for run in runs]
    return [whole - each for whole, each in zip(taken, trained, strict=True)], taken


def main() -> None:
    options = option_parser("Time what a run takes beside its training.", runs=8).parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), 2000)
        fixed = ["data.cells=2000", f"data.loading.store_dir={folder}/stores", "trainer.accelerator=cpu"]
        fixed += [f"data.loading.embeddings_dir={folder}/embeddings", f"seed=range({options.runs})"]
        for number, (name, (settings, at_most)) in enumerate(GRIDS.items()):
            runs_dir = Path(folder, f"runs-{number}")
            command = [sys.executable, "train.py", "-m", *settings, *fixed, f"runs_dir={runs_dir}"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
            beyond, whole = beyond_training(runs_dir)
            beside = {"s a run in all": float(np.median(whole))}
            results.append(Measured(f"run of a grid, {name}", beyond, "s beside training", "at most", at_most, beside))
    report(results, options.json)


if __name__ == "__main__":
    main()
