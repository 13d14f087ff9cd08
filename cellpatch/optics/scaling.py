"""Scale jitter: a crop's content larger or smaller, as a part of the optical operator."""

from dataclasses import replace
from math import ceil, floor

from cellpatch.optics.operator import OpticalPath

_SIZES = 9  # that training draws from


def scaled_paths(path: OpticalPath, low: float, high: float) -> list[OpticalPath]:
    """Paths that show the crop's content at up to 10 sizes from `low` to `high` times its own, one of them its own.

    They read wider or narrower windows of a stored crop, by whole pixels: a wider one shows the margin, and mirrored
    pixels where that ends. So a crop is resized once, to the input, as in evaluation.
    """
    narrowest, widest = ceil((path.crop_px / high - path.crop_px) / 2), floor((path.crop_px / low - path.crop_px) / 2)
    added = {round(narrowest + (widest - narrowest) * i / (_SIZES - 1)) for i in range(_SIZES)} | {0}
    return [
        replace(
            path,
            crop_px=path.crop_px + 2 * px,
            margin_px=max(0, path.margin_px - px),
            mirrored_px=max(0, px - path.margin_px),
        )
        for px in sorted(added)
    ]
