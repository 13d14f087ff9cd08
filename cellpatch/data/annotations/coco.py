"""COCO's JSON: one file for many images, with boxes and polygons."""

from typing import Any

from cellpatch.data.annotations.shapes import Shape, as_ring, centroid, longer_side, shown, signed_area
from cellpatch.data.store.intake import Intake


def is_coco(document: object) -> bool:
    return isinstance(document, dict) and {"images", "annotations", "categories"} <= set(document)


def read_shapes(document: Any, name: str, intake: Intake) -> dict[str, list[Shape]]:
    """The objects by file name of their image: the largest polygon's centroid, else the middle of the box.

    Crowds are counted as left out. Raises ValueError that names the annotation on an unknown image or category, or
    malformed numbers.
    """
    try:
        files = {image["id"]: str(image["file_name"]) for image in document["images"]}
        classes = {category["id"]: str(category["name"]) for category in document["categories"]}
    except (TypeError, KeyError) as error:
        raise ValueError(f"{name}: images need id and file_name, categories id and name") from error
    by_image: dict[str, list[Shape]] = {}
    if not isinstance(document["annotations"], list):
        raise ValueError(f"{name}: annotations must be a list, but got {shown(document['annotations'])}")
    for number, annotation in enumerate(document["annotations"], 1):
        where = f"{name}, row {number}"
        try:
            if annotation.get("iscrowd"):
                intake.left_out["crowds"] += 1
                continue
            polygons = annotation.get("segmentation")
            image, category = files[annotation["image_id"]], classes[annotation["category_id"]]
            if isinstance(polygons, list) and polygons:
                rings = [as_ring(list(zip(ring[::2], ring[1::2], strict=True))) for ring in polygons]
                ring = max(rings, key=lambda each: abs(signed_area(each)))
                x, y = centroid(ring)
                side = longer_side(ring)
            else:
                left, top, width, height = map(float, annotation["bbox"])
                [[x, y], _] = as_ring([(left + width / 2, top + height / 2), (width, height)]).tolist()
                side = max(width, height)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{where}: must name an image and a category of the file and have a bbox or polygons, but got "
                f"{shown(annotation)}"
            ) from error
        by_image.setdefault(image, []).append(Shape(x, y, category, where, side))
    return by_image
