"""Small valid inputs of every source, and ways to spoil them: what `fuzz_inputs.py` feeds to commands."""

import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import zarr
from PIL import Image

SIDE, CLASSES, SPECIMENS = 8, ("A", "B"), ("s0", "s1", "s2")
POINTS = [(x, y) for y in (12.0, 30.0) for x in (12.0, 30.0, 48.0)]
IMAGE_PX = (64, 48)  # width, height
TEXTS = [
    "",
    " ",
    "nan",
    "=1+1",
    "@SUM(A1)",
    "-inf",
    "1e999",
    "1e400000000",
    "-5",
    "0",
    "9" * 400,
    "\x1b[31mred",
    "a\x00b",
    "../../x",
    "/etc/passwd",
    "/dev/zero",
    "..",
    "a/b",
    "a\\b",
    "\u202egnp.exe",
    "<script>alert(1)</script>",
    "x" * 5000,
    '"',
    "a\nb",
    "a,b;c\td",
    "\ud7ff\uffff",
    "\u0661\u0662",
    "a|b",
    "{}",
    "[1]",
    "${oc.env:HOME}",
]
VALUES: list[Any] = [*TEXTS, None, True, 0, -1, 1e308, -1e308, 10**30, 10**5, float("nan"), float("inf"), [], {}]
VALUES += [[None], [[[]]], {"name": None}, {"name": []}, [1], [1, 2], [1, "2"], [[1, 2], [3]], [[1, 2]] * 3, 1e-300]


@dataclass(frozen=True)
class Case:
    """A command's verb and its arguments; `files` may be spoilt."""

    verb: str
    arguments: list[str]
    files: list[Path]


def _crops(rng: random.Random, folder: Path, suffix: str) -> list[tuple[Path, str, str]]:
    noise = np.random.default_rng(rng.randrange(2**32))
    rows = []
    for label in CLASSES:
        for specimen in SPECIMENS:
            file = folder / label / specimen / f"c{suffix}"
            file.parent.mkdir(parents=True)
            Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
            rows.append((file, label, specimen))
    return rows


def class_folder(rng: random.Random, folder: Path) -> Case:
    rows = _crops(rng, folder / "cells", rng.choice([".png", ".jpg", ".tif", ".bmp", ".gif", ".webp"]))
    return Case("prepare", ["data=folder", f"data.root={folder / 'cells'}"], [row[0] for row in rows])


def crop_table(rng: random.Random, folder: Path) -> Case:
    rows = _crops(rng, folder / "cells", ".png")
    table = pd.DataFrame([(file.relative_to(folder).as_posix(), *rest) for file, *rest in rows])
    table.columns = pd.Index(["path", "class", "specimen"])
    file = _write_table(rng, table, folder / "crops")
    return Case("prepare", ["data=table", f"data.table={file}"], [file, file, file, *(row[0] for row in rows)])


def _write_table(rng: random.Random, table: pd.DataFrame, stem: Path) -> Path:
    file = stem.with_suffix(rng.choice([".csv", ".csv", ".tsv", ".txt", ".parquet"]))
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    else:
        table.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file


def _image(rng: random.Random, folder: Path, name: str) -> Path:
    """An image of any format that is read by region."""
    noise = np.random.default_rng(rng.randrange(2**32))
    pixels = noise.integers(0, 256, (IMAGE_PX[1], IMAGE_PX[0], 3), dtype=np.uint8)
    kind = rng.choice(["png", "jpg", "strips", "tiles", "deflate", "planar", "ome", "big", "pyramid", "grey", "zarr"])
    file = folder / f"{name}.tif"
    if kind in ("png", "jpg"):
        file = folder / f"{name}.{kind}"
        Image.fromarray(pixels).save(file)
    elif kind == "zarr":
        file = folder / f"{name}.zarr"
        group = zarr.open_group(str(file), mode="w", zarr_format=2)
        group.create_array("0", shape=pixels.shape, dtype="u1", chunks=(32, 32, 3))[:] = pixels
        axes = [{"name": each, "type": "space", "unit": "micrometer"} for each in "yx"] + [{"name": "c"}]
        levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5, 1]}]}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    elif kind == "planar":
        tifffile.imwrite(file, np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate", tile=(16, 16))
    elif kind == "pyramid":
        with tifffile.TiffWriter(file) as writer:
            writer.write(pixels, photometric="rgb", tile=(16, 16), subifds=1)
            writer.write(pixels[::2, ::2], photometric="rgb", tile=(16, 16), subfiletype=1)
    elif kind == "ome":
        file = folder / f"{name}.ome.tif"
        sizes = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(file, pixels, photometric="rgb", tile=(16, 16), metadata=sizes)
    elif kind == "grey":
        tifffile.imwrite(file, pixels[..., 0], photometric="minisblack", rowsperstrip=8)
    else:
        options: dict[str, Any] = {"strips": {"rowsperstrip": 8}, "big": {"bigtiff": True, "tile": (16, 16)}}
        options |= {"tiles": {"tile": (16, 16)}, "deflate": {"tile": (16, 16), "compression": "zlib"}}
        tifffile.imwrite(file, pixels, photometric="rgb", **options[kind])
    return file


def points(rng: random.Random, folder: Path) -> Case:
    """A table of points in two to three images of any kind."""
    images = [_image(rng, folder, f"i{number}") for number in range(3)]
    rows = [
        (image.name, x, y, CLASSES[i % 2], image.stem, "note") for image in images for i, (x, y) in enumerate(POINTS)
    ]
    file = _write_table(rng, pd.DataFrame(rows, columns=["image", "x", "y", "class", "specimen", "note"]), folder / "p")
    return _points_case(rng, folder, file, [*images, file])


def _points_case(rng: random.Random, folder: Path, file: Path, files: list[Path], *more: str) -> Case:
    inner = [each for image in files if image.is_dir() for each in sorted(image.rglob("*")) if each.is_file()]
    files = [each for each in files if each.is_file()] + inner
    if rng.random() < 0.5:
        return Case("predict", [str(file), "--um-per-px", "0.5", "--slide", str(folder)], files)
    sizes = ["data.field_um=4", "data.margin_um=0", "data.image_um_per_px=0.5", f"data.root={folder}"]
    return Case("prepare", ["data=points", f"data.points={file}", *sizes, *more], files)


def endonuke(rng: random.Random, folder: Path) -> Case:
    files = []
    for number in range(3):
        for name in ("images", "labels"):
            (folder / f"s{number}" / name).mkdir(parents=True)
        image = folder / f"s{number}" / "images" / "a.png"
        noise = np.random.default_rng(number).integers(0, 256, (IMAGE_PX[1], IMAGE_PX[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(image)
        text = "".join(f"{x:g} {y:g} {i % 2}\n" for i, (x, y) in enumerate(POINTS))
        (folder / f"s{number}" / "labels" / "a.txt").write_text(text)
        files += [image, folder / f"s{number}" / "labels" / "a.txt"]
    sizes = ["data.field_um=4", "data.margin_um=0", "data.image_um_per_px=0.5", f"data.root={folder}"]
    return Case("prepare", ["data=points", "data.layout=endonuke", "data.points=*/labels/*.txt", *sizes], files)


def _square(x: float, y: float) -> list[list[float]]:
    return [[x - 2, y - 2], [x + 2, y - 2], [x + 2, y + 2], [x - 2, y + 2], [x - 2, y - 2]]


def _geojson() -> Any:
    features = []
    for i, (x, y) in enumerate(POINTS):
        geometry = {"type": "Polygon", "coordinates": [_square(x, y)]}
        if i == 5:
            geometry = {"type": "Point", "coordinates": [x, y]}
        kind = {"objectType": "detection", "classification": {"name": CLASSES[i % 2], "color": [1, 2, 3]}}
        features.append({"type": "Feature", "id": str(i), "geometry": geometry, "properties": kind})
    return {"type": "FeatureCollection", "features": features}


def _labelme(image: str) -> Any:
    shapes = [{"label": CLASSES[i % 2], "points": [[x, y]], "shape_type": "point"} for i, (x, y) in enumerate(POINTS)]
    return {"version": "5", "imagePath": image, "imageData": None, "shapes": shapes}


def _coco(images: list[str]) -> Any:
    annotations = [
        {"id": i, "image_id": n, "category_id": i % 2, "bbox": [x - 2, y - 2, 4, 4], "segmentation": []}
        for n in range(len(images))
        for i, (x, y) in enumerate(POINTS)
    ]
    names = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    files = [{"id": n, "file_name": name} for n, name in enumerate(images)]
    return {"images": files, "categories": names, "annotations": annotations}


def _asap() -> str:
    dots = "".join(
        f'<Annotation Name="a{i}" Type="Dot" PartOfGroup="{CLASSES[i % 2]}"><Coordinates>'
        f'<Coordinate Order="0" X="{x}" Y="{y}"/></Coordinates></Annotation>'
        for i, (x, y) in enumerate(POINTS)
    )
    return f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{dots}</Annotations></ASAP_Annotations>'


def annotation_files(rng: random.Random, folder: Path) -> Case:
    """Files of one of the JSON or XML formats, with a value replaced now and then."""
    images = [_image(rng, folder, f"i{number}") for number in range(3)]
    kind = rng.choice(["geojson", "geojson", "geojson.gz", "json", "coco", "xml"])
    if kind == "coco":
        files = [folder / "all.json"]
        _dump(rng, _coco([image.name for image in images]), files[0])
        return _points_case(rng, folder, files[0], [*images, *files])
    files = [folder / f"i{number}.{kind}" for number in range(3)]
    for file, image in zip(files, images, strict=True):
        if kind == "xml":
            file.write_text(_asap())
        else:
            _dump(rng, _labelme(image.name) if kind == "json" else _geojson(), file)
    glob = folder / f"*.{kind}"
    case = _points_case(rng, folder, files[0], [*images, *files])
    return (
        Case(case.verb, [each.replace(str(files[0]), glob.name) for each in case.arguments], case.files)
        if (case.verb == "prepare")
        else case
    )


def _dump(rng: random.Random, document: Any, file: Path) -> None:
    """A document as JSON, with up to two values anywhere in it replaced or removed."""
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        node, key = document, None
        while isinstance(node, dict | list) and node and (key is None or rng.random() < 0.8):
            parent, key = node, rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node = node[key]
        if key is not None:
            if rng.random() < 0.2:
                del parent[key]
            else:
                parent[key] = rng.choice(VALUES)
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = rng.choice(
            [
                b"[" * 100_000,
                b'{"a":' * 100_000,
                b"[" * 900 + b"]" * 900,
                text + b"}",
                b"\xff\xfe" + text,
                b"9" * 5000,
                b"null",
            ]
        )
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" and rng.random() < 0.8 else text)


def npz(rng: random.Random, folder: Path) -> Case:
    noise = np.random.default_rng(rng.randrange(2**32))
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = noise.integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(6)[:, None] % 2
    if rng.random() < 0.6:
        name = rng.choice(list(arrays))
        hostile: list[Any] = [
            np.array([{}, None], object),
            np.array(5),
            np.zeros(0),
            np.zeros((0, 0, 0, 3), np.uint8),
            np.full((6, 1), 10**8),
            np.full(6, 2**63, np.uint64),
            np.full(6, -1),
            np.zeros((6, SIDE, SIDE, 3), np.uint16),
            np.array(["a"] * 6),
            np.zeros(6, [("a", "u1")]),
            np.zeros(6, "M8[s]"),
            np.zeros((6, 1, 1, 3), np.uint8),
            np.zeros((6, SIDE, SIDE), np.uint8),
            np.zeros((6, SIDE, SIDE, 3), np.uint8, order="F"),
            np.full(6, np.nan),
            np.full(6, True),
        ]
        arrays[name] = rng.choice(hostile)
    file = folder / "cells.npz"
    (np.savez_compressed if rng.random() < 0.5 else np.savez)(file, **arrays)
    return Case("prepare", ["data=npz", f"data.file={file}"], [file])


def crops_to_classify(rng: random.Random, folder: Path) -> Case:
    rows = _crops(rng, folder / "cells", ".png")
    for file, *_ in rows:
        Image.open(file).resize((16, 16)).save(file)
    files = [row[0] for row in rows]
    if rng.random() < 0.5:
        return Case("predict", [str(folder / "cells")], files)
    table = pd.DataFrame({"path": [file.relative_to(folder).as_posix() for file in files], "note": "n"})
    file = _write_table(rng, table, folder / "new")
    return Case("predict", [str(file)], [file, file, file, *files])


SOURCES: list[Callable[[random.Random, Path], Case]] = [
    class_folder,
    crop_table,
    points,
    points,
    endonuke,
    annotation_files,
    annotation_files,
    npz,
    crops_to_classify,
]


def spoil(rng: random.Random, file: Path) -> None:
    """Change a file's bytes, or put something else in its place."""
    content = file.read_bytes()
    is_text = file.suffix in (".csv", ".tsv", ".txt", ".xml")
    kinds = ["flip", "truncate", "extreme", "repeat", "zero", "insert", "special", "name"]
    kind = rng.choice([*kinds, *(["field", "field", "field", "line"] * 2 if is_text else [])])
    at = rng.randrange(max(1, len(content)))
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(rng.choice([1, 3, 30])):
            if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        content = bytes(changed)
    elif kind == "truncate":
        content = content[: rng.choice([0, 1, 8, at, len(content) - 1])]
    elif kind == "extreme":  # a header's number
        at = rng.randrange(max(1, min(len(content), 600)))
        content = (
            content[:at]
            + rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\xff\xff\xff\x7f"])
            + content[at + 4 :]
        )
    elif kind == "repeat":
        content = content[:at] + content[at:] * 2
    elif kind == "zero":
        content = content[:at] + bytes(len(content[at : at + 64])) + content[at + 64 :]
    elif kind == "insert":
        content = content[:at] + rng.randbytes(rng.choice([1, 7, 300])) + content[at:]
    elif kind in ("field", "line"):
        content = _spoil_text(rng, content, kind)
    elif kind == "name":
        _rename(rng, file)
        return
    else:
        _replace(rng, file)
        return
    file.write_bytes(content)


def _spoil_text(rng: random.Random, content: bytes, kind: str) -> bytes:
    separator = (
        b'"' if content.startswith(b"<?xml") else b"\t" if b"\t" in content else b"," if b"," in content else b" "
    )
    lines = content.split(b"\n")
    row = rng.randrange(len(lines))
    if kind == "line":
        lines[row] = rng.choice([b"", lines[0], lines[row] * 2, rng.choice(TEXTS).encode()])
    else:
        fields = lines[row].split(separator)
        fields[rng.randrange(len(fields))] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        lines[row] = separator.join(fields)
    return b"\n".join(lines)


def _rename(rng: random.Random, file: Path) -> None:
    """Another name for a file, or for the folder that it lies in."""
    names = [b"x\xff\xfe", b"a\nb", b"\x1b[31m", "\u202egnp".encode(), b" ", b"x" * 200, b"=1+1", b"-x", b"<b>", b"nan"]
    name = rng.choice(names) + os.fsencode(file.suffix)
    target = file.parent if rng.random() < 0.4 and file.parent.parent.name == "cells" else file
    os.rename(target, os.path.join(os.fsencode(target.parent), name))  # noqa: PTH104, PTH118 (bytes)


def _replace(rng: random.Random, file: Path) -> None:
    """Something else than a file, where the file was."""
    file.unlink()
    kind = rng.choice(["folder", "fifo", "loop", "dangling", "zero", "outside", "parent", "gone"])
    links = {"loop": file, "dangling": Path("nowhere"), "zero": Path("/dev/zero"), "outside": Path("/etc/passwd")}
    links["parent"] = file.parent.parent
    if kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind in links:
        file.symlink_to(links[kind])
