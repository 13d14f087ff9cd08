"""How far a crop's centre lies from its point: in four layouts, at four scales, with every border; -s prints numbers."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from test_intake import coded, feature
from test_points import _fill, _points

from cellpatch.data.images.crops import Border

IMAGE_UM = 0.25
FIELD_UM, MARGIN_UM = 8.0, 2.0
LAYOUTS = {"table": "auto", "geojson": "auto", "viewer": "viewer", "endonuke": "endonuke"}
MAX_PX, MAX_BIAS_PX = 0.5, 0.05  # of the image


def _places() -> np.ndarray:
    """400 points whose crop lies in an image of 250 x 240 px; the margin of some leaves it."""
    rng = np.random.default_rng(0)
    half = FIELD_UM / IMAGE_UM / 2 + 1
    places = rng.uniform((half, half), (250 - half, 240 - half), (400, 2))
    return places.round(2)


def _write(root: Path, layout: str, places: np.ndarray) -> str:
    """The points in a layout, and what `data.points` is for them."""
    folder = root / "s1" / "images"
    folder.mkdir(parents=True)
    Image.fromarray(coded(250, 240)).save(folder / "a.png")
    names = ["AB"[i % 2] for i in range(len(places))]
    rows = list(zip(places.tolist(), names, strict=True))
    if layout == "table":
        lines = ["image,x,y,class", *(f"s1/images/a.png,{x},{y},{name}" for (x, y), name in rows)]
        (root / "t.csv").write_text("\n".join(lines))
        return str(root / "t.csv")
    if layout == "geojson":
        features = [feature("Point", place, name) for place, name in rows]
        (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return "s1/images/*.geojson"
    if layout == "viewer":
        lines = [f"{x}\t{y}\t{name}\t0.9\t#ff0000\t1" for (x, y), name in rows]
        (folder / "annotation.csv").write_text("\n".join(lines))
        return "s1/images/annotation.csv"
    labels = root / "s1" / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("\n".join(f"{x} {y} {'AB'.index(name)}" for (x, y), name in rows))
    return "*/labels/*.txt"


@pytest.mark.long
@pytest.mark.parametrize("border", get_args(Border))
@pytest.mark.parametrize("um_per_px", [0.25, 0.5, 0.125, 0.17])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_crop_s_centre_is_its_point(tmp_path: Path, layout: str, um_per_px: float, border: Border) -> None:
    points = _write(tmp_path / "in", layout, _places())
    names = {0: "A", 1: "B"} if layout == "endonuke" else None
    changes = {"points": points, "layout": LAYOUTS[layout], "class_names": names, "border": border}
    scale = {"image_um_per_px": IMAGE_UM, "um_per_px": um_per_px, "field_um": FIELD_UM, "margin_um": MARGIN_UM}
    store = _fill(tmp_path, _points(tmp_path / "in", **changes, **scale))
    inner = store.geometry.margin_px + 2  # a resize mirrors nothing there, and no margin is in the mean
    pixels = store.crops(np.arange(len(store)))[:, inner:-inner, inner:-inner].astype(float)
    centres = np.stack([pixels[..., axis].mean(axis=(1, 2)) + 0.5 for axis in (0, 1)], axis=1)
    off = centres - store.cells[["x", "y"]].to_numpy()
    print(
        f"{layout:9} {border:15} {um_per_px:5} um/px: {len(store)} cells, at most {np.abs(off).max():.3f} px off, "
        f"mean {off[:, 0].mean():+.3f} {off[:, 1].mean():+.3f}"
    )
    assert len(store) == 400 if border != "drop" else 200 < len(store) < 400
    assert np.abs(off).max() <= MAX_PX + 1e-9
    assert np.abs(off.mean(axis=0)).max() <= MAX_BIAS_PX
