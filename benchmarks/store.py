"""Write a synthetic store of the study's size, open it, draw the first batch: seconds and peak memory.

python benchmarks/store.py [--cells 185432] [--specimens 303] [--workers 2]

The store is written to a temporary folder and deleted.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from cellpatch.data.source import prepare
from cellpatch.data.store import CellStore
from cellpatch.data.synthetic.source import Synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description="Time writing, opening and first batch of a synthetic store.")
    parser.add_argument("--cells", type=int, default=185_432)
    parser.add_argument("--specimens", type=int, default=303)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Print seconds and peak memory of writing, opening and the first batch."""
    started = time.perf_counter()
    root = prepare(Synthetic(options.cells, options.specimens, 0, options.workers), "synthetic", folder)
    seconds = time.perf_counter() - started
    parent, child = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"write: {options.cells} cells in {seconds:.1f} s, {options.cells / seconds:.0f} cells/s")
    print(f"peak memory: {parent:.0f} MiB, and {child:.0f} MiB in the largest of {options.workers} workers")
    from cellpatch.data.datamodule import BatchIndices, Part  # torch would weigh in the memory above

    for verify in (True, False):
        started = time.perf_counter()
        store = CellStore(root, verify=verify)
        opened = time.perf_counter()
        everything = np.arange(len(store))
        part = Part(store, everything, store.labels, resident=False)
        crops, _, _ = part[next(iter(BatchIndices(len(store), 256, seed=0)))]
        drawn = time.perf_counter()
        print(
            f"open ({'with' if verify else 'without'} checksums): {opened - started:.2f} s; "
            f"first shuffled batch of 256: {drawn - opened:.2f} s, {tuple(crops.shape)}"
        )


if __name__ == "__main__":
    main()
