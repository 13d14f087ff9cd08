"""How near does a prediction on a slide come to the slower of its two stages alone?

    python benchmarks/slides.py [--repeats 3] [--points 50000] [--side 20000] [--json FILE]

A tiled JPEG slide with random points is written, and a run of customvit_s on synthetic cells. Stages alone: cutting,
with as many processes as there are cores (at most eight), and the forward pass on ready crops, with all cores. The
whole is what `python -m cellpatch.predict` does between reading the table and writing its file. On a machine whose
forward pass runs on the same cores as the cutting, the whole cannot be faster than both together: the sum stands
beside.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measured import Measured, option_parser, report, seconds_of

MARK = 0.9
UM_PER_PX = 0.25


def write_slide(file: Path, side_px: int) -> None:
    """A tiled JPEG of noise and structure, written tile by tile."""
    import tifffile

    rng = np.random.default_rng(0)
    tile = 512
    block = rng.integers(60, 255, (tile // 8, tile // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    rows = columns = -(-side_px // tile)
    tiles = (np.roll(block, (i * 37) % tile, axis=1) for i in range(rows * columns))
    tifffile.imwrite(
        file,
        tiles,
        shape=(side_px, side_px, 3),
        dtype=np.uint8,
        tile=(tile, tile),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 80},
    )


def stored_run(folder: Path) -> Path:
    """A run of customvit_s, trained for one epoch on synthetic cells."""
    from cellpatch.config.schema import compose_config
    from cellpatch.sweeps.train import train

    train(
        compose_config(
            [
                "model=customvit_s",
                "data.cells=2000",
                "data.specimens=12",
                "flag_limit=16",
                "trainer.max_epochs=1",
                "logger=none",
                f"runs_dir={folder / 'runs'}",
                f"data.loading.store_dir={folder / 'stores'}",
            ]
        )
    )
    return next(file.parent for file in (folder / "runs").glob("*/record.json"))


def main() -> None:
    # imported here, not above: the processes that cut import this file anew, and those of the command do not
    import pandas as pd

    from cellpatch.data.images.crops import CropSpec, ImageFolder, cut_points
    from cellpatch.inference.cutting import AHEAD, CHUNK, cutting_order
    from cellpatch.inference.new_cells import PointOptions
    from cellpatch.inference.predict import predict
    from cellpatch.inference.restore import predict_probabilities, restore
    from cellpatch.runtime.device import inference_batch_size, resolve_device
    from cellpatch.runtime.memory import tune_malloc
    from cellpatch.runtime.parallel import available_workers, lane_map

    parser = option_parser("Time predictions on a slide against their stages.", repeats=3)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=20_000)
    options = parser.parse_args()
    tune_malloc()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(folder / "slide.tif", options.side)
        xy = np.random.default_rng(1).uniform(100, options.side - 100, (options.points, 2))
        pd.DataFrame(xy, columns=["x", "y"]).assign(image="slide.tif").to_csv(folder / "cells.csv", index=False)
        run = stored_run(folder)
        restored = restore(run)
        geometry, device = restored.geometry, resolve_device("auto")
        assert geometry.um_per_px is not None
        network = restored.network.to(device)
        spec = CropSpec(geometry.crop_px, geometry.margin_px, geometry.um_per_px, True, "reflect_margin")
        parts = np.array_split(xy[cutting_order(*xy.T)], -(-options.points // CHUNK))
        tasks = [(str(folder / "slide.tif"), part[:, 0], part[:, 1]) for part in parts]
        workers = available_workers()
        lanes = [tasks[len(tasks) * lane // workers : len(tasks) * (lane + 1) // workers] for lane in range(workers)]

        def cut() -> None:
            work = partial(cut_points, ImageFolder(Path(), UM_PER_PX), spec)
            for _ in lane_map(work, lanes, AHEAD, in_turns=False):
                pass

        side = geometry.side_px
        batch = np.random.default_rng(0).integers(
            0, 256, (inference_batch_size(network.backbone.input_px, device), side, side, 3), dtype=np.uint8
        )

        def forward() -> None:
            for start in range(0, options.points, len(batch)):
                predict_probabilities(network, batch[: options.points - start])

        def whole() -> None:
            predict(
                run, folder / "cells.csv", points=PointOptions(um_per_px=UM_PER_PX), partial=folder / "partial"
            ).finish()

        taken = np.array([[seconds_of(work) for work in (cut, forward, whole)] for _ in range(options.repeats)])
    slower = taken[:, :2].max(axis=1)
    medians = dict(zip(("cut", "forward", "whole"), np.median(taken, axis=0).tolist(), strict=True))
    medians |= {"cells/s": options.points / medians["whole"], "both stages": medians["cut"] + medians["forward"]}
    together = Measured(
        "slides: both stages over the whole",
        (taken[:, :2].sum(axis=1) / taken[:, 2]).tolist(),
        "of the speed",
        "at least",
        None,
        medians,
    )
    ratio = Measured(
        "slides: slower stage over the whole",
        (slower / taken[:, 2]).tolist(),
        "of the speed",
        "at least",
        MARK,
        medians,
    )
    report([ratio, together], options.json)


if __name__ == "__main__":
    main()
