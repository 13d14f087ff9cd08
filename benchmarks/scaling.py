"""Does anything grow faster than the number of cells?

    python benchmarks/scaling.py [--cells 10000,50000,185432,1000000] [--json FILE] [--plot FILE.png]

Simulated cells of 303 specimens and 16 classes, crops of 16 px of noise (so that a million of them fit on a disk):
seconds to write the store once, and medians of five calls to open it with its checksums, to split it by specimen, until
the first shuffled batch of 256 from the memory map, and for 2,000 bootstrap draws of macro-F1. The slope is of log
seconds against log cells between the two largest numbers: 1 is linear; marks are of slopes.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measured import Measured, option_parser, report, seconds_of

from cellpatch.analysis.bootstrap import bootstrap_weights, interval, weighted_counts
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.batch_indices import BatchIndices
from cellpatch.data.datamodule import SplitPart
from cellpatch.data.splitter import LabelledCells
from cellpatch.data.store.reader import CellStore, Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.metrics.scores import class_counts, confusions_by_specimen, macro_f1
from cellpatch.runtime.atomic_io import create_once

CLASSES, SPECIMENS, SIDE, CHUNK = [f"type {i:02}" for i in range(16)], 303, 16, 5000
DRAWS, SLOPE = 2000, 1.1


def write(folder: Path, n: int) -> None:
    """A store of n cells."""
    rng = np.random.default_rng(0)
    with StoreWriter(folder, CLASSES, Geometry(SIDE), {"kind": "simulated", "synthetic": True}) as writer:
        for start in range(0, n, CHUNK):
            names = [f"c{i}" for i in range(start, min(n, start + CHUNK))]
            writer.add(
                rng.integers(0, 256, (len(names), SIDE, SIDE, 3), dtype=np.uint8),
                CellRows(
                    cell_id=names,
                    label=[CLASSES[i] for i in rng.integers(0, len(CLASSES), len(names))],
                    specimen=[f"s{i:03}" for i in rng.integers(0, SPECIMENS, len(names))],
                    source=names,
                ),
            )


def usual(work: Callable[[], object]) -> float:
    """The median of five calls."""
    return float(np.median([seconds_of(work) for _ in range(5)]))


def steps(folder: Path, n: int) -> dict[str, float]:
    """Seconds of each step at n cells."""
    root = folder / str(n)
    seconds = {"ingest": seconds_of(lambda: create_once(root, lambda target: write(target, n)))}
    opened: list[CellStore] = []
    seconds["open"] = usual(lambda: opened.append(CellStore(root)))
    store = opened[-1]
    by_specimen = assemble(compose_config(["model=cnn"])).data.split
    labels, specimens = store.labels, store.cells["specimen"].astype(str).to_numpy()
    digests = store.cells["digest"].to_numpy(dtype="S16")
    cells = LabelledCells(labels, specimens, digests)
    seconds["split"] = usual(lambda: by_specimen.split(cells, CLASSES, 16384))
    everything = np.arange(n)
    positions = next(iter(BatchIndices(n, 256, seed=0)))
    seconds["first batch"] = usual(lambda: SplitPart(store, everything, labels)[positions])
    predicted = np.random.default_rng(1).integers(0, len(CLASSES), n)
    seconds["bootstrap"] = usual(lambda: bootstrap(labels, predicted, specimens))
    return seconds


def bootstrap(labels: np.ndarray, predicted: np.ndarray, specimens: np.ndarray) -> None:
    """The interval of macro-F1, from predictions on."""
    counts = class_counts(confusions_by_specimen(labels, predicted, specimens, len(CLASSES)))
    times, _ = bootstrap_weights(counts[:, 1], DRAWS, seed=0)
    interval(macro_f1(weighted_counts(counts, times)))


def plot(cells: list[int], seconds: dict[str, list[float]], file: Path) -> None:
    """Seconds against cells on two log axes, a line a step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, values in seconds.items():
        axes.loglog(cells, values, marker="o", markersize=4, label=name)
    axes.loglog(cells, [seconds["ingest"][0] * n / cells[0] for n in cells], "k:", linewidth=1, label="linear")
    axes.set(xlabel="cells (simulated)", ylabel="seconds", xticks=cells, xticklabels=[f"{n:,}" for n in cells])
    axes.minorticks_off()
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = option_parser("Time steps against the number of cells.", cells="10000,50000,185432,1000000")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    cells = [int(n) for n in options.cells.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        at_each = [steps(Path(folder), n) for n in cells]
    seconds = {name: [step[name] for step in at_each] for name in at_each[0]}
    if options.plot:
        plot(cells, seconds, options.plot)
    results = []
    for name, values in seconds.items():
        slope = np.log(values[-1] / values[-2]) / np.log(cells[-1] / cells[-2])
        at = {f"s for {n} cells": value for n, value in zip(cells, values, strict=True)}
        results.append(Measured(f"scaling, {name}", [float(slope)], "slope", "at most", SLOPE, at))
    report(results, options.json)


if __name__ == "__main__":
    main()
