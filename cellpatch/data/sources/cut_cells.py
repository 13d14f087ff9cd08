"""From cut crops to a store: what is doubtful about an image, what was left out, the rows of the rest."""

import pandas as pd

from cellpatch.data.images.crops import CutCrops
from cellpatch.data.sources.point_checks import MICROMETRES, count_near, looks_like_micrometres
from cellpatch.data.store.digests import CropHashes
from cellpatch.data.store.intake import Intake
from cellpatch.data.store.writer import CellRows, StoreWriter


def check_image(points: pd.DataFrame, cut: CutCrops, intake: Intake) -> None:
    """Count what is doubtful about one image and its points."""
    xy = points[["x", "y"]].to_numpy()
    for note in cut.notes:
        intake.doubtful[note] += 1
    count_near(xy, cut.um_per_px, intake)
    if looks_like_micrometres(xy, cut.width, cut.height, cut.um_per_px):
        intake.doubtful[MICROMETRES] += len(xy)


def add_cut(writer: StoreWriter, points: pd.DataFrame, cut: CutCrops, hashes: CropHashes) -> None:
    """Write the crops of some points and count the points without one."""
    writer.intake.left_out.update(cut.reasons.values())
    if not cut.kept:
        return
    rows = points.iloc[cut.kept]
    writer.add(
        cut.crops,
        CellRows(
            cell_id=list(rows["cell_id"]),
            label=list(rows["class"]),
            specimen=list(rows["specimen"]),
            source=list(rows["where"]),
            x=list(rows["x"]),
            y=list(rows["y"]),
            image=list(rows["image"]),
            split=list(rows["split"]) if "split" in rows else None,
            site=list(rows["site"]) if "site" in rows else None,
            mirrored_px=cut.mirrored_px,
        ),
        hashes,
    )
