"""Small data of every form that docs/ names, cut from the SYNTHETIC project of `cellpatch example`."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from cellpatch.data.synthetic.example import write_example

_UM_PER_PX = 0.25
_HALF_PX = 20  # of a crop of 10 um
_MARGIN_PX = 13  # around it, which a run of the quickstart takes


@dataclass(frozen=True)
class _Annotated:
    """An image with its classified cells, `x y class`."""

    patient: str
    name: str
    pixels: np.ndarray
    cells: pd.DataFrame


def write_all(folder: Path) -> None:
    """Write `practice` and a folder of each other form into `folder`."""
    write_example(folder / "practice", seed=0)
    annotated = list(_read(folder / "practice"))
    for form in (
        _points,
        _geojson,
        _by_patient,
        _labelme,
        _coco,
        _asap,
        _viewer,
        _classes,
        _crop_table,
        _arrays,
        _slides,
    ):
        root = folder / form.__name__.strip("_")
        root.mkdir()
        form(root, annotated)


def _read(practice: Path) -> Iterator[_Annotated]:
    for file in sorted(practice.glob("*/*.geojson")):
        found = [
            (
                *np.mean(feature["geometry"]["coordinates"][0][:-1], axis=0),
                feature["properties"]["classification"]["name"],
            )
            for feature in json.loads(file.read_text())["features"]
            if feature["properties"]["objectType"] == "detection" and "classification" in feature["properties"]
        ]
        cells = pd.DataFrame(found, columns=["x", "y", "class"])
        yield _Annotated(file.parent.name, file.stem, np.array(Image.open(file.with_suffix(".png"))), cells)


def _save_image(file: Path, image: _Annotated) -> None:
    """An OME-TIFF, which states its scale."""
    scale = {"PhysicalSizeX": _UM_PER_PX, "PhysicalSizeY": _UM_PER_PX}
    metadata = {"axes": "YXS"} | scale | {f"{key}Unit": "µm" for key in scale}
    tifffile.imwrite(file, image.pixels, metadata=metadata, photometric="rgb", tile=(256, 256), ome=True)


def _points(root: Path, images: list[_Annotated]) -> None:
    rows = []
    for image in images:
        _save_image(root / f"{image.name}.tif", image)
        rows.append(image.cells.assign(image=f"{image.name}.tif", specimen=image.patient))
    pd.concat(rows).to_csv(root / "points.csv", index=False)


def _geojson(root: Path, images: list[_Annotated]) -> None:
    practice = root.parent / "practice"
    for image in images:
        _save_image(root / f"{image.name}.tif", image)
        shutil.copy(practice / image.patient / f"{image.name}.geojson", root)
    names = [f"{image.name}.tif" for image in images]
    patients = pd.DataFrame({"image": names, "specimen": [image.patient for image in images]})
    patients.to_csv(root.parent / "patients.csv", index=False)


def _by_patient(root: Path, images: list[_Annotated]) -> None:
    for image in images:
        (root / image.patient).mkdir(exist_ok=True)
        _save_image(root / image.patient / f"{image.name}.tif", image)
        shutil.copy(root.parent / "practice" / image.patient / f"{image.name}.geojson", root)


def _labelme(root: Path, images: list[_Annotated]) -> None:
    for image in images:
        _save_image(root / f"{image.name}.tif", image)
        shapes = [{"label": c, "points": [[x, y]], "shape_type": "point"} for x, y, c in image.cells.to_numpy()]
        text = json.dumps({"shapes": shapes, "imagePath": f"{image.name}.tif"})
        (root / f"{image.name}.json").write_text(text)


def _coco(root: Path, images: list[_Annotated]) -> None:
    names = sorted(images[0].cells["class"].unique())
    document: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": i, "file_name": f"{image.name}.tif"} for i, image in enumerate(images)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": i, "category_id": names.index(c), "bbox": [x - 5, y - 5, 10, 10]}
            for i, image in enumerate(images)
            for x, y, c in image.cells.to_numpy()
        ],
    }
    for image in images:
        _save_image(root / f"{image.name}.tif", image)
    (root / "instances.json").write_text(json.dumps(document))


def _asap(root: Path, images: list[_Annotated]) -> None:
    for image in images:
        _save_image(root / f"{image.name}.tif", image)
        dots = [
            f'<Annotation Name="n" Type="Dot" PartOfGroup="{c}"><Coordinates><Coordinate Order="0" X="{x}" Y="{y}"/>'
            "</Coordinates></Annotation>"
            for x, y, c in image.cells.to_numpy()
        ]
        text = f"<ASAP_Annotations><Annotations>{''.join(dots)}</Annotations></ASAP_Annotations>"
        (root / f"{image.name}.xml").write_text(f'<?xml version="1.0"?>{text}')


def _viewer(root: Path, images: list[_Annotated]) -> None:
    for image in images:
        (root / image.name).mkdir()
        _save_image(root / image.name / "image.tif", image)
        rows = [f"{round(x)}\t{round(y)}\t{c}\t0.9\t#ff0000\t1" for x, y, c in image.cells.to_numpy()]
        (root / image.name / "annotation.csv").write_bytes("\r\n".join(rows).encode("cp932"))


def _crops(images: list[_Annotated], half: int = _HALF_PX) -> Iterator[tuple[_Annotated, str, np.ndarray]]:
    for image in images:
        for x, y, name in image.cells.to_numpy():
            left, top = round(x) - half, round(y) - half
            yield image, name, image.pixels[top : top + 2 * half, left : left + 2 * half]


def _classes(root: Path, images: list[_Annotated]) -> None:
    for i, (image, name, crop) in enumerate(_crops(images)):
        (root / name / image.patient).mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(root / name / image.patient / f"{i}.png")


def _crop_table(root: Path, images: list[_Annotated]) -> None:
    rows = []
    for i, (image, name, crop) in enumerate(_crops(images)):
        Image.fromarray(crop).save(root / f"{i}.png")
        rows.append({"path": f"{i}.png", "class": name, "specimen": image.patient})
    pd.DataFrame(rows).to_csv(root / "cells.csv", index=False)


def _arrays(root: Path, images: list[_Annotated]) -> None:
    names = sorted(images[0].cells["class"].unique())
    parts: dict[str, Callable[[int], bool]] = {
        "train": lambda patient: patient < 5,
        "val": lambda patient: patient in (5, 6),
        "test": lambda patient: patient > 6,
    }
    cells = [(int(image.patient.removeprefix("patient")), names.index(c), crop) for image, c, crop in _crops(images)]
    arrays = {}
    for part, is_of in parts.items():
        chosen = [(label, crop) for patient, label, crop in cells if is_of(patient)]
        arrays[f"{part}_images"] = np.stack([crop for _, crop in chosen])
        arrays[f"{part}_labels"] = np.array([[label] for label, _ in chosen])
    np.savez(root / "cells.npz", **arrays)


def _slides(root: Path, images: list[_Annotated]) -> None:
    """What a trained model is used on, beside `slides` too: images, points in tables, polygons, crops."""
    beside = root.parent
    for folder in ("images", "new_cells"):
        (beside / folder).mkdir()
    rows = []
    for image in images[:2]:
        for folder in (root, beside / "images"):
            _save_image(folder / f"{image.name}.tif", image)
        shutil.copy(beside / "practice" / image.patient / f"{image.name}.geojson", root)
        rows.append(image.cells.drop(columns="class").assign(image=f"{image.name}.tif"))
    cells = pd.concat(rows)
    cells.to_csv(root / "cells.csv", index=False)
    cells.assign(image="slides/" + cells["image"]).to_parquet(beside / "cells.parquet", index=False)
    aperio = f"Aperio Image Library v12\r\n512x512 [0,0 512x512] (256x256)|AppMag = 40|MPP = {_UM_PER_PX}"
    tifffile.imwrite(
        beside / "a.svs", images[0].pixels, photometric="rgb", tile=(256, 256), description=aperio, metadata=None
    )
    shutil.copy(root / f"{images[0].name}.geojson", beside / "a.geojson")
    for i, (_, _, crop) in zip(range(3), _crops(images, _HALF_PX + _MARGIN_PX), strict=False):
        Image.fromarray(crop).save(beside / "new_cells" / f"{i}.png")
