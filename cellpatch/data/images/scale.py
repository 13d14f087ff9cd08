"""The scale that an image file states, in micrometres per pixel, checked."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_UM = {"nm": 1e-3, "\u00b5m": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0}
_UM |= {"mm": 1e3, "cm": 1e4, "m": 1e6, "\u00c5": 1e-4, "inch": 25400.0, "in": 25400.0, "pm": 1e-6, "nanometer": 1e-3}
_UM |= {"millimeter": 1e3, "centimeter": 1e4, "meter": 1e6, "angstrom": 1e-4}
PLAUSIBLE_UM = (0.01, 20.0)  # of a pixel in microscopy; 300 dpi, a printer's, is 85 um
_ISOTROPIC = 0.01


def to_um(length: float, unit: str | None) -> float | None:
    """A length in micrometres; None if the unit is not a length (pixel) or unknown. No unit is OME's, micrometres."""
    plain = "\u00b5m" if unit is None else unit.strip().replace("\u03bc", "\u00b5").replace("\u212b", "\u00c5")
    factor = _UM.get(plain, _UM.get(plain.lower()))
    return None if factor is None else length * factor


def check_scale(file: Path, x_um: float | None, y_um: float | None, source: str) -> float | None:
    """Micrometres per pixel from what a file states for both axes, None if it states none.

    Raises ValueError on zero, negative or infinite values, axes that differ by more than 1 %, and exactly 1 um, which
    programs write for images that nobody calibrated.
    """
    if x_um is None and y_um is None:
        return None
    x_um, y_um = (y_um if x_um is None else x_um), (x_um if y_um is None else y_um)
    assert x_um is not None
    assert y_um is not None
    remedy = "state the right one with data.image_um_per_px (predict: --um-per-px)"
    if not all(math.isfinite(value) and value > 0 for value in (x_um, y_um)):
        raise ValueError(f"{file}: {source} states a scale of {x_um:g} x {y_um:g} um/px; {remedy}")
    if abs(x_um / y_um - 1) > _ISOTROPIC:
        raise ValueError(
            f"{file}: {source} states pixels that are not square, {x_um:g} x {y_um:g} um; resample the image, "
            f"or {remedy}"
        )
    if x_um == y_um == 1:
        raise ValueError(f"{file}: {source} states 1 um/px, as exports without calibration do; {remedy}")
    return x_um


def ome_um_per_px(file: Path, xml: str, scene: int) -> float | None:
    """The scale by OME metadata, of an image in it; raises ElementTree.ParseError, and as `check_scale` does."""
    images = ElementTree.fromstring(xml).findall(".//{*}Pixels")  # noqa: S314 (expat rejects entity bombs since 2.4.1)
    if not images:
        return None
    stated = images[min(scene, len(images) - 1)].attrib
    return check_scale(file, _ome_axis(file, stated, "X"), _ome_axis(file, stated, "Y"), "OME metadata")


def _ome_axis(file: Path, attributes: Mapping[str, str], axis: str) -> float | None:
    text = attributes.get(f"PhysicalSize{axis}")
    try:
        return None if text is None else to_um(float(text), attributes.get(f"PhysicalSize{axis}Unit"))
    except ValueError as error:
        raise ValueError(f"{file}: OME metadata states PhysicalSize{axis}={text!r}, which is not a number") from error


def resolution_um_per_px(file: Path, tags: Mapping[str, Any], imagej_unit: str | None) -> float | None:
    """The scale by TIFF's resolution tags, or ImageJ's unit; None where they state none or a printer's.

    Resolutions are pixels per inch, per centimetre or per ImageJ's unit. Raises as `check_scale` does.
    """
    unit = imagej_unit or {2: "inch", 3: "cm"}.get(int(tags.get("ResolutionUnit", 1)))
    if unit is None:
        return None
    sizes = []
    for axis in "XY":
        numerator, denominator = tags.get(f"{axis}Resolution", (0, 1))
        sizes.append(to_um(denominator / numerator, unit) if numerator and denominator else None)
    if not any(size is not None and PLAUSIBLE_UM[0] <= size <= PLAUSIBLE_UM[1] for size in sizes):
        return None
    return check_scale(file, sizes[0], sizes[1], "the TIFF's resolution")
