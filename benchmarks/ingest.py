"""How fast do crops get into a store, from PNG and JPEG files and from tiles with points, against bare decoding?

    python benchmarks/ingest.py [--cells 185432] [--tiles 200] [--repeats 3] [--json FILE]

Crops are as many as the study has. Each repeat is a process of its own that writes a new store, its start included,
against one that opens the same files with Pillow in two processes and keeps nothing. Tiles are PNG of 1000 x 1000 px
with 100 points each. First, the peak memory of writing a synthetic store of as many cells. Needs 10 GB of disk.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from cells import store_of, write_images
from measured import ROOT, Measured, in_turn, option_parser, report, seconds_of, times_as_fast
from PIL import Image

TILE_PX, PER_TILE, SPECIMENS = 1000, 100, 303
BARE = """
import sys
from multiprocessing import Pool
from pathlib import Path
import numpy as np
from PIL import Image
def decode(file):
    return np.asarray(Image.open(file).convert("RGB")).shape
if __name__ == "__main__":
    with Pool(2) as pool:
        print(len(pool.map(decode, sorted(Path(sys.argv[1]).rglob("*.*g")), chunksize=64)))
"""


def write_tiles(crops: np.ndarray, tiles: int, folder: Path) -> None:
    """Crops laid out as tiles, and points.csv with the centre of each but those at a tile's edge."""
    side, across = crops.shape[1], TILE_PX // crops.shape[1]
    rows = []
    folder.mkdir()
    for number in range(tiles):
        shown = np.random.default_rng(number).integers(len(crops), size=across**2)
        grid = crops[shown].reshape(across, across, side, side, 3)
        tile = np.full((TILE_PX, TILE_PX, 3), 230, np.uint8)
        tile[: across * side, : across * side] = grid.swapaxes(1, 2).reshape(across * side, across * side, 3)
        Image.fromarray(tile).save(folder / f"tile{number:03d}.png", compress_level=1)
        centres = np.random.default_rng(number).uniform(side, TILE_PX - 2 * side, (PER_TILE, 2)).round(1)
        rows += [
            {"image": f"tile{number:03d}.png", "x": x, "y": y, "class": f"type{i % 2}"}
            for i, (x, y) in enumerate(centres)
        ]
    pd.DataFrame(rows).to_csv(folder / "points.csv", index=False)


def run(*command: str) -> None:
    """Python with this command, in the checkout."""
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)  # noqa: S603


def write_study(cells: int, folder: Path) -> list[Measured]:
    """Peak memory and seconds of writing a synthetic store; memory of the largest of its processes."""
    settings = [f"data.cells={cells}", f"data.specimens={SPECIMENS}", f"data.loading.store_dir={folder}"]
    seconds = seconds_of(lambda: run("-m", "cellpatch.data.prepare", *settings))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    beside = {"cells": cells, "s": seconds}
    return [Measured("ingest, peak memory", [peak], "MiB", "at most", 1500, beside)]


def main() -> None:
    options = option_parser(
        "Time preparing a store against bare decoding.", cells=185_432, tiles=200, repeats=3
    ).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = write_study(options.cells, folder / "stores")
        store = store_of(folder, options.cells, SPECIMENS)
        for suffix in ("png", "jpg"):
            write_images(store, np.arange(len(store)), folder / suffix, suffix)
        write_tiles(store.crops(np.arange(min(len(store), 20_000)))[:, 13:-13, 13:-13], options.tiles, folder / "tiles")
        points = [f"data.root={folder}/tiles", "data.points=points.csv", "data.image_um_per_px=0.25"]
        sources = {
            "PNG files": ("png", 1.0, ["data=folder", f"data.root={folder}/png"]),
            "JPEG files": ("jpg", 0.9, ["data=folder", f"data.root={folder}/jpg"]),
            "tiles with points": ("tiles", 0.9, ["data=points", *points]),
        }
        for what, (images, mark, settings) in sources.items():
            numbers = iter(range(10**6))

            def ours(settings: list[str] = settings, numbers: Iterator[int] = numbers) -> None:
                run("-m", "cellpatch.data.prepare", *settings, f"data.loading.store_dir={folder}/new{next(numbers)}")

            def baseline(images: str = images) -> None:
                run("-c", BARE, f"{folder}/{images}")

            taken = in_turn(ours, baseline, options.repeats)
            results.append(times_as_fast(f"ingest, {what}", taken, mark))
    report(results, options.json)


if __name__ == "__main__":
    main()
