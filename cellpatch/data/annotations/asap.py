"""ASAP's XML: one file a slide, with dots and polygons in groups."""

from pathlib import Path
from xml.etree.ElementTree import ParseError

from cellpatch.data.annotations.shapes import Shape, as_ring, centroid, longer_side
from cellpatch.data.class_names import is_missing
from cellpatch.data.store.intake import Intake

_POLYGONS = ("Polygon", "Rectangle", "Spline")


def read_shapes(file: Path, name: str, intake: Intake) -> list[Shape]:
    """The annotations of a file in its order; the group is the class. Measurements are counted as left out.

    ASAP does not state whether a polygon is a cell or a region. Raises ValueError if the file is not an ASAP file, or
    on malformed coordinates, and names the annotation.
    """
    import defusedxml
    from defusedxml.ElementTree import parse

    try:
        root = parse(file).getroot()
    except (ParseError, defusedxml.DefusedXmlException) as error:
        raise ValueError(f"{file}: is not readable as XML ({error})") from error
    if root.tag != "ASAP_Annotations":
        raise ValueError(f"{file}: must be ASAP's XML with ASAP_Annotations, but the root is {root.tag}")
    shapes: list[Shape] = []
    for number, annotation in enumerate(root.iter("Annotation"), 1):
        where = f"{name}, row {number}"
        kind, group = annotation.get("Type", ""), annotation.get("PartOfGroup")
        if kind not in ("Dot", "PointSet", *_POLYGONS):
            intake.left_out[f"{kind} annotations"] += 1
            continue
        try:
            corners = [(float(each.attrib["X"]), float(each.attrib["Y"])) for each in annotation.iter("Coordinate")]
            ring = as_ring(corners)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{where}: malformed coordinates of {kind} {annotation.get('Name')!r}") from error
        label = None if is_missing(group) else group
        if kind in _POLYGONS:
            shapes.append(Shape(*centroid(ring), label, where, longer_side(ring), None))
        else:
            shapes += [Shape(x, y, label, f"{where}.{i}" if i else where) for i, (x, y) in enumerate(corners)]
    return shapes
