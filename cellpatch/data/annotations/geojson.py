"""QuPath's GeoJSON, and that of tools that write alike."""

import json
from collections.abc import Iterator
from typing import Any

from cellpatch.data.annotations.features import Features
from cellpatch.data.annotations.shapes import Shape, as_ring, centroid, is_one_object, longer_side, shown, signed_area
from cellpatch.data.class_names import is_missing
from cellpatch.data.store.intake import Intake
from cellpatch.runtime.json_types import Json

_GEOMETRIES = ("Point", "MultiPoint", "Polygon", "MultiPolygon")
_CELLS, _REGIONS = ("detection", "cell"), ("tile", "tma_core", "root")


def features_of(document: object, name: str) -> Iterator[Json]:
    """The features of a document: a collection, a list, one feature, or `Features`; raises ValueError on another."""
    found: Any = document.get("features", [document]) if isinstance(document, dict) else document
    if not isinstance(found, list | Features):
        raise ValueError(f"{name}: must hold GeoJSON features, but holds {type(document).__name__}")
    for number, feature in enumerate(found, 1):
        if not isinstance(feature, dict):
            raise ValueError(f"{name}, row {number}: must be a GeoJSON feature, but got {shown(feature)}")
        if not isinstance(feature.get("properties") or {}, dict):
            raise ValueError(
                f"{name}, row {number}: properties must be an object, but got {shown(feature['properties'])}"
            )
        yield feature


def read_shapes(document: object, name: str, intake: Intake) -> list[Shape]:
    """The objects of a document, in its order; other geometries than points and polygons are counted as left out.

    An object of several polygons is one object in pieces if QuPath calls it a detection or a cell and the pieces lie
    together; its largest piece represents it. Else each polygon is an object. Raises ValueError that names the feature
    on malformed coordinates.
    """
    shapes = []
    for number, feature in enumerate(features_of(document, name), 1):
        found = shapes_of(feature, f"{name}, row {number}")
        if not found:
            kind = _kind_of(feature)
            intake.left_out["objects without a geometry" if kind is None else f"{kind} objects"] += 1
        shapes += found
    if shapes and all(shape.label is None for shape in shapes):
        properties_of: list[Any] = [feature.get("properties") or {} for feature in features_of(document, name)]
        keys = sorted({str(key) for each in properties_of for key in each})
        raise ValueError(f"{name}: no object has a classification; their properties are {keys}")
    return shapes


def shapes_of(feature: Json, where: str) -> list[Shape]:
    """The objects of one feature; none if its geometry is missing or neither points nor polygons."""
    kind = _kind_of(feature)
    if kind not in _GEOMETRIES:
        return []
    geometry: Any = feature["geometry"]
    properties: Any = feature.get("properties") or {}
    object_type = str(properties.get("objectType", properties.get("object_type", ""))).lower()
    label = class_of(properties, where)
    try:
        centres = list(_centres(str(kind), geometry.get("coordinates"), object_type))
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{where}: malformed {kind} coordinates ({error})") from error
    shapes = []
    for part, (x, y, side) in enumerate(centres):
        region = False if side is None or object_type in _CELLS else True if object_type in _REGIONS else None
        shapes.append(Shape(x, y, label, where + (f".{part}" if part else ""), side, region))
    return shapes


def _kind_of(feature: Json) -> str | None:
    geometry: Any = feature.get("geometry") or {}
    return geometry.get("type") if isinstance(geometry, dict) else None


def centres(geometry: Json, where: str) -> list[tuple[float, float]]:
    """Points of a geometry, or its polygons' centroids; raises ValueError on malformed coordinates."""
    kind = str(geometry.get("type"))
    if kind not in _GEOMETRIES:
        raise ValueError(f"{where}: geometry must be {', '.join(_GEOMETRIES)}, but got {kind}")
    try:
        return [(x, y) for x, y, _ in _centres(kind, geometry.get("coordinates"), "detection")]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{where}: malformed {kind} coordinates") from error


def _centres(kind: str, coordinates: Any, object_type: str) -> Iterator[tuple[float, float, float | None]]:
    """Centre and longer side of each object of a geometry."""
    if kind in ("Point", "MultiPoint"):
        for x, y in as_ring([coordinates] if kind == "Point" else coordinates).tolist():
            yield x, y, None
        return
    rings = [as_ring(polygon[0]) for polygon in ([coordinates] if kind == "Polygon" else coordinates)]
    if len(rings) > 1 and object_type in _CELLS and is_one_object(rings):
        rings = [max(rings, key=lambda ring: abs(signed_area(ring)))]
    for ring in rings:
        yield (*centroid(ring), longer_side(ring))


def class_of(properties: Any, where: str) -> str | None:
    """The class by `classification`: an object with `name` or `names`, the same as a JSON text, or a plain name.

    None if there is none. Several names are joined by ": ", as QuPath shows them. Raises ValueError on another type.
    """
    value = properties.get("classification")
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where}: classification is not readable as JSON: {shown(value)}") from error
    if isinstance(value, dict):
        names = value.get("names")
        value = value.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else None)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError(f"{where}: classification must be a name or hold one, but got {shown(value)}")
    return None if is_missing(value) else str(value)
