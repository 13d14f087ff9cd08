"""How fast do augmented, normalised batches come from a store, against an ImageFolder of PNG files?

    python benchmarks/input.py [--cells 8192] [--repeats 7] [--json FILE]

Ours: one process, from the store to batches of 64 on 40x40 after augmentation, optics and normalisation. Baseline:
torchvision's ImageFolder of the same crops, equal transforms crop by crop, DataLoader with two workers that are kept
between epochs.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from cells import store_of, write_images
from measured import in_turn, option_parser, report, times_as_fast
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from transforms import MEAN, STD, augmented

from cellpatch.data.augment import DeviceAugment
from cellpatch.data.batch_indices import BatchIndices
from cellpatch.data.datamodule import SplitPart
from cellpatch.optics.operator import OpticalPath

BATCH, LEAST = 64, 8.0


def main() -> None:
    options = option_parser("Time batches from a store against an ImageFolder.", cells=8192, repeats=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), options.cells)
        everything = np.arange(len(store))
        write_images(store, everything, Path(folder, "images"))
        part = SplitPart(store, everything, np.zeros(len(store), np.int64), torch.device("cpu"))
        augment = DeviceAugment(0.2, 0.1, 2, 0.0, [1.0, 1.0])
        optics = OpticalPath(store.geometry.crop_px, store.geometry.margin_px, input_px=40, via_px=40).under()
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        loader = DataLoader(
            ImageFolder(f"{folder}/images", augmented()),
            batch_size=BATCH,
            shuffle=True,
            num_workers=2,
            persistent_workers=True,
        )

        def ours() -> None:
            for positions in BatchIndices(len(store), BATCH, seed=0):
                crops, _, _ = part[positions]
                x = (optics(augment(crops, optics.needed_px)) - mean) / std
                assert x.shape[1:] == (3, 40, 40)

        def baseline() -> None:
            for x, _ in loader:
                assert x.shape[1:] == (3, 40, 40)

        taken = in_turn(ours, baseline, options.repeats)
    report([times_as_fast("input", taken, LEAST)], options.json)


if __name__ == "__main__":
    main()
