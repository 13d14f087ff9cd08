"""Synthetic cells for benchmarks: a store, and the same crops as CLASS/SPECIMEN/NAME.png."""

from pathlib import Path

import numpy as np
from PIL import Image

from cellpatch.data.sources.source import prepare_store
from cellpatch.data.store.reader import CellStore
from cellpatch.data.synthetic.source import Synthetic


def store_of(folder: Path, cells: int, specimens: int = 60) -> CellStore:
    """A store of synthetic cells below the folder."""
    return CellStore(prepare_store(Synthetic(cells, specimens, 0, 2), "synthetic", folder / "stores"))


def write_images(store: CellStore, cells: np.ndarray, folder: Path, suffix: str = "png") -> None:
    """The crops of these cells as PNG or JPEG files, without their margin."""
    margin, side = store.geometry.margin_px, store.geometry.side_px
    about = store.cells.iloc[cells]
    crops = store.crops(cells)[:, margin : side - margin, margin : side - margin]
    for crop, label, specimen, name in zip(crops, about["class"], about["specimen"], about["cell_id"], strict=True):
        file = folder / str(label) / str(specimen) / f"{name}.{suffix}".replace("/", "-")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(file, quality=90)
