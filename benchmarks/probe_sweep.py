"""What does a sweep of probes cost, against the passes over the cells that it needs?

    python benchmarks/probe_sweep.py [--json FILE] [OVERRIDES]
    python benchmarks/probe_sweep.py model=dinov2_s model.weights.file=FILE data=endonuke data.root=DIR optics=clean

Runs `python train.py -m` with 7 limits and 3 seeds, by default a linear probe on efficientnet_lite0 at 224 px and 20000
synthetic cells under eight conditions of blur, in empty runs and embeddings folders. Reports the seconds of the whole
command, its start included, divided by those of the first run's one pass over all cells. Under blur (optics=blur) the
passes over the test cells under each other condition count too. The store is prepared before.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from measured import ROOT, Measured, option_parser, report, seconds_of

from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun

LIMITS = "256,512,1024,2048,4096,8192,16384"
DEFAULT = ["model=efficientnet_lite0", "data.cells=20000", "optics=blur"]


def main() -> None:
    parser = option_parser("Time a sweep of probes.")
    parser.add_argument("overrides", nargs="*", default=DEFAULT)
    options = parser.parse_args()
    overrides = [*options.overrides, "logger=none"]
    with tempfile.TemporaryDirectory() as folder:
        data = [each for each in overrides if each.startswith("data")] + [f"data.loading.store_dir={folder}/stores"]
        subprocess.run([sys.executable, "-m", "cellpatch.data.prepare", *data], cwd=ROOT, check=True)  # noqa: S603
        command = [sys.executable, "train.py", "-m", *overrides, *data, f"flag_limit={LIMITS}", "seed=0,1,2"]
        command += [f"runs_dir={folder}/runs", f"data.loading.embeddings_dir={folder}/embeddings"]
        done: list[subprocess.CompletedProcess[str]] = []
        whole = seconds_of(
            lambda: done.append(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True))  # noqa: S603
        )
        seconds = [StoredRun.open(run).record.seconds for run in finished_runs(Path(folder, "runs"))]
    if not seconds:
        sys.exit(f"error: no run was finished:\n{done[0].stdout}{done[0].stderr}")
    passes, at_most = max(each.embed or 0.0 for each in seconds), 1.15
    if "optics=blur" in overrides:
        passes, at_most = passes + max(each.evaluate for each in seconds), 1.2
    parts = {"s in all": whole, "s of passes": passes, "s of fits": sum(each.train for each in seconds)}
    name = f"probe sweep, {len(seconds)} runs"
    report([Measured(name, [whole / passes], "of the passes", "at most", at_most, parts)], options.json)


if __name__ == "__main__":
    main()
