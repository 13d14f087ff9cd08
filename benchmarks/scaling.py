"""Does anything grow faster than the number of cells?

    python benchmarks/scaling.py [--cells 10000,50000,185432,1000000] [--json FILE] [--plot FILE.png]

Simulated cells of 303 specimens and 16 classes, crops of 16 px of noise (so that a million of them fit on a disk):
seconds to write the store once, and medians of five calls to open it with its checksums, to split it by specimen, until
the first shuffled batch of 256 from the memory map, and for 2,000 bootstrap draws of macro-F1. The slope is of log
seconds against log cells between the two largest numbers: 1 is linear; marks are of slopes.

Then a million cells are compared with ten: each in a process of its own, three times, seconds to open the store
without the checksums of its shards, to split it, and until the first batch; and the peak memory. Their crops have 66 px
and are files of holes, which take no disk: reading them is not measured. Their table is a real one.
"""

import json
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measured import Measured, option_parser, report, seconds_of

from cellpatch.analysis.bootstrap import bootstrap_weights, interval, weighted_counts
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.batch_indices import BatchIndices
from cellpatch.data.datamodule import SplitPart
from cellpatch.data.dataset import labelled_cells
from cellpatch.data.splitter import LabelledCells, Split
from cellpatch.data.store.reader import CellStore, Geometry, Manifest
from cellpatch.data.store.shards import SHARD_BYTES
from cellpatch.data.store.writer import CELL_SCHEMA, CellRows, StoreWriter
from cellpatch.metrics.scores import class_counts, confusions_by_specimen, macro_f1
from cellpatch.runtime.atomic_io import create_once, sha256_of
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.memory import tune_malloc

LARGE_SIDE = 66  # px
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


def write_sparse(folder: Path, n: int) -> None:
    """A store of n cells whose crops are zeros that take no disk."""
    rng, geometry = np.random.default_rng(0), Geometry(LARGE_SIDE)
    rows = SHARD_BYTES // (3 * LARGE_SIDE**2)
    files = {}
    folder.mkdir()
    with pq.ParquetWriter(folder / "cells.parquet", CELL_SCHEMA) as writer:
        for shard, start in enumerate(range(0, n, rows)):
            size = min(rows, n - start)
            files[f"crops-{shard:05d}.npy"] = "0" * 64
            np.lib.format.open_memmap(folder / f"crops-{shard:05d}.npy", "w+", np.uint8, (size, *[LARGE_SIDE] * 2, 3))
            names = np.arange(start, start + size).astype(str)
            columns: dict[str, Any] = {"cell_id": names, "source": names, "row": np.arange(size)}
            columns |= {"shard": np.full(size, shard), "mirrored_px": np.zeros(size)}
            columns |= {"x": rng.uniform(0, 1e5, size), "y": rng.uniform(0, 1e5, size)}
            columns["class"] = np.array(CLASSES)[rng.integers(0, len(CLASSES), size)]
            columns["specimen"] = np.array([f"s{i:03}" for i in range(SPECIMENS)])[rng.integers(0, SPECIMENS, size)]
            columns["digest"] = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), size, [None, pa.py_buffer(rng.bytes(16 * size))]
            )
            arrays = [
                pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(size, f.type)
                for f in CELL_SCHEMA
            ]
            writer.write_table(pa.table(arrays, CELL_SCHEMA))
    files["cells.parquet"] = sha256_of(folder / "cells.parquet")
    counts = dict.fromkeys(CLASSES, n // len(CLASSES))
    source: Json = {"kind": "simulated", "synthetic": True}
    manifest = Manifest(CLASSES, geometry, n, counts, {}, {}, {}, source, files, f"simulated {n}")
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))


def large_steps(root: Path, n: int) -> dict[str, float]:
    """Seconds of each step, once, and the peak memory of this process."""
    tune_malloc()  # as a training does first
    by_specimen = assemble(compose_config(["model=cnn"])).data.split
    import torch  # noqa: F401  # which a batch needs

    few = np.arange(48)
    by_specimen.split(LabelledCells(few % 3, few % 16, few.astype("S16")), list("abc"), 8)  # imports what it needs
    opened: list[CellStore] = []
    seconds = {"open": seconds_of(lambda: opened.append(CellStore(root, verify=False)))}
    classes, splits = CLASSES, list[Split]()

    def split() -> None:
        splits.append(by_specimen.split(labelled_cells(opened[0], by_specimen)[1], classes, 16384))

    seconds["split"] = seconds_of(split)
    everything = np.arange(n)
    part = SplitPart(opened[0], everything, opened[0].labels)
    seconds["first batch"] = seconds_of(lambda: part[next(iter(BatchIndices(n, 256, seed=0)))])
    seconds["MiB"] = _peak_memory()
    return seconds


def _peak_memory() -> float:
    """MiB of this process at most; getrusage counts the process that started it, too."""
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) / 1024


def large() -> list[Measured]:
    """What ten million cells take of what a million do."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[int, list[dict[str, float]]] = {10**6: [], 10**7: []}
    with tempfile.TemporaryDirectory() as folder:
        for n in found:
            write_sparse(Path(folder, str(n)), n)
        for _, n in product(range(3), found):
            with ProcessPoolExecutor(1, spawn) as process:
                found[n].append(process.submit(large_steps, Path(folder, str(n)), n).result())
    small, big = found.values()
    measured = []
    for name in ("open", "split", "first batch"):
        ratios = [of_big[name] / of_small[name] for of_small, of_big in zip(small, big, strict=True)]
        beside = {f"s for {n} cells": float(np.median([each[name] for each in found[n]])) for n in found}
        measured.append(Measured(f"ten million cells, {name}", ratios, "times a million", "at most", 11, beside))
    opened, peaks = ([each[name] for each in big] for name in ("open", "MiB"))
    measured.append(Measured("ten million cells, open", opened, "s", "at most", 5, {}))
    measured.append(Measured("ten million cells, peak memory", peaks, "MiB", "at most", 2000, {}))
    return measured


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
    labels, specimens = store.labels, np.asarray(store.specimens)
    seconds["split"] = usual(lambda: by_specimen.split(labelled_cells(store, by_specimen)[1], CLASSES, 16384))
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
    report([*results, *large()], options.json)


if __name__ == "__main__":
    main()
