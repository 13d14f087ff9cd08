"""What does a sweep of probes cost, against the one pass over the cells that it needs?

    python benchmarks/probe_sweep.py model=dinov2_s model.weights.file=FILE data=endonuke data.root=DIR

Runs `python train.py -m` with 7 limits and 3 seeds in an empty runs and embeddings folder, and prints the seconds of
the whole command over those of the embedding pass in it. The store is prepared before. The mark is 1.2.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS = "256,512,1024,2048,4096,8192,16384"


def main() -> None:
    overrides = sys.argv[1:]
    subprocess.run([sys.executable, "-m", "cellpatch.data.prepare", *overrides], cwd=ROOT, check=True)  # noqa: S603
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "-m", *overrides, f"flag_limit={LIMITS}", "seed=0,1,2"]
        command += [f"runs_dir={folder}/runs", f"data.loading.embeddings_dir={folder}/embeddings"]
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        whole = time.perf_counter() - started
        records = [json.loads(file.read_text()) for file in Path(folder, "runs").glob("*/record.json")]
        embed = max(record["seconds"]["embed"] for record in records)
        fits = sum(record["seconds"]["train"] for record in records)
        print(f"{len(records)} runs: {whole:.1f} s, of these the pass {embed:.1f} s and the fits {fits:.1f} s")
        print(f"ratio {whole / embed:.3f}")


if __name__ == "__main__":
    main()
