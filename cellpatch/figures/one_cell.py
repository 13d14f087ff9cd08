"""One cell of a store for a figure: the sharpest, and how a network sees it under a condition."""

import numpy as np
from jaxtyping import Float, UInt8

from cellpatch.data.store.reader import CellStore
from cellpatch.figures.gallery import pick_across_specimens
from cellpatch.optics.conditions import STUDY_PX, Condition

LOOKED_AT = 12  # cells of each class, among which the sharpest is picked


def sharpest(store: CellStore) -> int:
    """Row of the store of the cell with the largest mean step between neighbouring pixels, of cells of all classes."""
    specimens, classes = store.column("specimen").to_pandas(), store.manifest.classes
    picked = []
    for code in sorted(np.unique(store.labels), key=lambda code: classes[code]):
        of_class = np.flatnonzero(store.labels == code)
        picked.append(of_class[pick_across_specimens(specimens.iloc[of_class], LOOKED_AT)])
    rows = np.concatenate(picked)
    margin, side = store.geometry.margin_px, store.geometry.crop_px
    grey = store.crops(rows)[:, margin : margin + side, margin : margin + side].astype(np.float32).mean(axis=3)
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    return int(rows[steps.argmax()])


def under(crop: UInt8[np.ndarray, "s s 3"], store: CellStore, condition: Condition) -> Float[np.ndarray, "h h 3"]:
    """What a network of 40x40 px sees of a stored crop under a condition, in [0, 1]."""
    import torch  # half a gigabyte, which figures of runs without crops do without

    from cellpatch.optics.operator import OpticalPath, to_pixels

    path = OpticalPath(store.geometry.crop_px, store.geometry.margin_px, STUDY_PX)
    with torch.inference_mode():
        seen = path.under(condition)(to_pixels(torch.from_numpy(crop)[None]))
    return seen[0].permute(1, 2, 0).numpy()
