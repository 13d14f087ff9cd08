"""A small project to practise on: fields of SYNTHETIC tissue, annotated as QuPath exports them.

    FOLDER/README.txt
    FOLDER/patient1/patient1-a.png         512 x 512 px, 0.25 um/px
    FOLDER/patient1/patient1-a.geojson     classified cells, a region, cells without a class

Numbers of patients, images and cells are our choice.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import JsonValue

from cellpatch.data.synthetic.camera import UInts, draw_camera, photograph
from cellpatch.data.synthetic.cell_counts import CLASSES
from cellpatch.data.synthetic.cells import PAINTERS
from cellpatch.data.synthetic.example_readme import readme
from cellpatch.data.synthetic.frame import SpecimenStyle, draw_bank, draw_traits
from cellpatch.data.synthetic.specimen import paint_field
from cellpatch.data.synthetic.stains import draw_staining
from cellpatch.data.synthetic.structures import Ints, Points
from cellpatch.data.synthetic.tissue import Layout, lay_out
from cellpatch.runtime.atomic_io import atomic_directory, file_lock
from cellpatch.runtime.json_types import Json

PATIENTS, IMAGES = 8, "ab"
SIDE_PX, UM_PER_PX = 512, 0.25
SIDE_UM = SIDE_PX * UM_PER_PX
BORDER_UM = 9.5  # a crop of 10 um and its margin of 3.2 um lie in the image
# Types that are annotated, and their share of the cells of an image beyond LEAST of each.
SHARES = {
    "adenocarcinoma": 0.25,
    "stromal_cell": 0.20,
    "lymphocyte": 0.20,
    "red_membrane": 0.10,
    "green_membrane": 0.15,
    "double_membrane": 0.10,
}
LEAST, MORE = 5, 45  # cells of each class in an image, and cells that are shared out
UNCLASSIFIED = 6  # detections of an image that nobody has classified
_COMPOSITION = 4.0  # Dirichlet concentration per class: patients differ in their cells
_COLOURS = {
    "adenocarcinoma": (200, 0, 0),
    "stromal_cell": (150, 200, 150),
    "lymphocyte": (160, 90, 160),
    "red_membrane": (250, 62, 62),
    "green_membrane": (23, 140, 80),
    "double_membrane": (130, 60, 30),
}
_CORNERS = 14  # of a detection's outline
_OUTLINE = 0.5  # its radius, as a share of the half side of the window that the cell is painted in


@dataclass(frozen=True)
class ExampleCounts:
    """What a project has: images, patients, classified cells by class, detections without a class, regions."""

    images: int
    patients: int
    cells: dict[str, int]
    unclassified: int
    regions: int


@dataclass(frozen=True)
class Field:
    """One image, uint8 [512, 512, 3], and its detections: centres [n, 2] in um, class (None: unclassified), angle."""

    image: UInts
    xy: Points
    label: Ints
    angle: Points
    classified: list[bool]


def write_example(folder: Path, seed: int) -> ExampleCounts:
    """Write the project; `folder` must be new or empty. It is complete or absent, and the same for the same seed.

    Raises ValueError on a negative seed, a folder that has files, a path that is not a folder, and the current folder.
    """
    if seed < 0:
        raise ValueError(f"Expected argument `seed` to be >= 0, but got {seed}")
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    _check_free(folder, target)
    with file_lock(lock):
        _check_free(folder, target)
        with atomic_directory(target) as temporary:
            counts = _fill(temporary, seed)
            (temporary / "README.txt").write_text(readme(str(folder), seed, counts.cells), encoding="utf-8")
        lock.unlink(missing_ok=True)
    return counts


def render_fields(seed: int, patient: int) -> Iterator[Field]:
    """Render the images of one patient, who has one staining, one scanner and cells of one kind in all of them."""
    rng = np.random.default_rng([seed, patient])
    traits, staining, camera = draw_traits(rng), draw_staining(rng), draw_camera(rng)
    style = SpecimenStyle(traits, draw_bank(rng, UM_PER_PX), UM_PER_PX)
    share = np.array(list(SHARES.values())) * rng.gamma(_COMPOSITION, size=len(SHARES))
    share /= share.sum()
    for _ in IMAGES:
        counts = np.zeros(len(CLASSES), np.int64)
        counts[[CLASSES.index(name) for name in SHARES]] = LEAST + rng.multinomial(MORE, share)
        layout = lay_out(counts, BORDER_UM, rng, SIDE_UM)
        field = photograph(paint_field(layout, style, rng), staining, camera, UM_PER_PX, rng)
        yield _cut(field, layout, rng)


def _check_free(folder: Path, target: Path) -> None:
    """Raise ValueError unless `target` is new, or an empty folder that no command works in."""
    if target == Path.cwd():
        raise ValueError(f"{folder} is the current folder: name a new one")
    if target.exists() and not target.is_dir():
        raise ValueError(f"{folder} is a file: name a new folder")
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{folder} has files: nothing is written there; name a new or an empty folder")


def _fill(folder: Path, seed: int) -> ExampleCounts:
    """Write images and annotations of all patients."""
    cells = dict.fromkeys(SHARES, 0)
    unclassified = 0
    for patient in range(PATIENTS):
        name = f"patient{patient + 1}"
        (folder / name).mkdir()
        for letter, field in zip(IMAGES, render_fields(seed, patient), strict=True):
            stem = f"{name}-{letter}"
            Image.fromarray(field.image).save(folder / name / f"{stem}.png")
            rng = np.random.default_rng([seed, patient, ord(letter)])
            document = json.dumps(annotations(field, stem, rng), indent=1)
            (folder / name / f"{stem}.geojson").write_text(document, encoding="utf-8")
            for label, classified in zip(field.label, field.classified, strict=True):
                if classified:
                    cells[CLASSES[label]] += 1
            unclassified += field.classified.count(False)
    images = PATIENTS * len(IMAGES)
    return ExampleCounts(images, PATIENTS, cells, unclassified, regions=images)


def _cut(field: UInts, layout: Layout, rng: np.random.Generator) -> Field:
    """The corner of the field that the image shows, with its annotated cells and some that stay unclassified."""
    inside = np.all((layout.xy > BORDER_UM) & (layout.xy < SIDE_UM - BORDER_UM), axis=1)
    cells = np.flatnonzero(inside & layout.annotated)
    others = rng.permutation(np.flatnonzero(inside & ~layout.annotated))[:UNCLASSIFIED]
    kept = np.sort(np.concatenate([cells, others]))
    image = np.ascontiguousarray(field[:SIDE_PX, :SIDE_PX])
    return Field(image, layout.xy[kept], layout.label[kept], layout.angle[kept], layout.annotated[kept].tolist())


def annotations(field: Field, stem: str, rng: np.random.Generator) -> Json:
    """The field's GeoJSON: the region that was annotated, then a detection a cell."""
    low, high = BORDER_UM / UM_PER_PX, SIDE_PX - BORDER_UM / UM_PER_PX
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    features: list[JsonValue] = [_feature(f"{stem} region", "annotation", corners, "Region*", (180, 180, 180))]
    rows = zip(field.xy, field.label, field.angle, field.classified, strict=True)
    for number, (xy, label, angle, classified) in enumerate(rows):
        radius_um = _OUTLINE * PAINTERS[label][1]
        outline = _outline(xy, angle, radius_um, rng) / UM_PER_PX
        name = CLASSES[label] if classified else None
        features.append(_feature(f"{stem} {number}", "detection", outline, name, _COLOURS.get(CLASSES[label])))
    return {"type": "FeatureCollection", "features": features}


def _outline(xy: Points, angle: float, radius_um: float, rng: np.random.Generator) -> Points:
    """Corners [n, 2] of an irregular ellipse around a cell, in um; their mean is the cell's centre."""
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radius = radius_um * rng.normal(1, 0.06, _CORNERS)
    u, v = radius * np.cos(turn), 0.75 * radius * np.sin(turn)
    c, s = np.cos(angle), np.sin(angle)
    corners: Points = np.stack([u * c - v * s, u * s + v * c], 1)
    return xy + corners - corners.mean(axis=0)


def _feature(
    key: str, object_type: str, corners: Points, name: str | None, colour: tuple[int, int, int] | None
) -> Json:
    """One object as QuPath exports it; `name` is its class, None for an object without one."""
    ring: list[JsonValue] = [[round(float(x), 2), round(float(y), 2)] for x, y in [*corners, corners[0]]]
    properties: Json = {"objectType": object_type}
    if name is not None:
        properties["classification"] = {"name": name, "color": list(colour or ())}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, key)),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }
