"""LabelMe's JSON: one file an image, with points, boxes, circles and polygons."""

from typing import Any

from cellpatch.data.annotations.shapes import Shape, as_ring, centroid, longer_side, shown
from cellpatch.data.class_names import is_missing
from cellpatch.data.store.intake import Intake

_KINDS = ("point", "rectangle", "circle", "polygon")


def is_labelme(document: object) -> bool:
    return isinstance(document, dict) and "shapes" in document and "imagePath" in document


def read_shapes(document: Any, name: str, intake: Intake) -> list[Shape]:
    """The shapes of a document in its order; lines and masks are counted as left out.

    Raises ValueError that names the shape on malformed points.
    """
    if not isinstance(document["shapes"], list):
        raise ValueError(f"{name}: shapes must be a list, but got {shown(document['shapes'])}")
    shapes = []
    for number, shape in enumerate(document["shapes"], 1):
        where = f"{name}, row {number}"
        try:
            kind, label = shape.get("shape_type") or "polygon", shape.get("label")
            if kind not in _KINDS:
                intake.left_out[f"{kind} shapes"] += 1
                continue
            ring = as_ring(shape["points"])
            x, y = centroid(ring) if kind in ("polygon", "rectangle") else map(float, ring[0])
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{where}: must have a label and points, but got {shown(shape)}") from error
        side = None if kind == "point" else longer_side(ring) * (2 if kind == "circle" else 1)
        shapes.append(Shape(x, y, None if is_missing(label) else str(label), where, side))
    return shapes
