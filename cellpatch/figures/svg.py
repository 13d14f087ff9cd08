"""A figure as SVG for a page: what `cellpatch.plotting.tip` said of its marks, within reach of mouse and keyboard."""

import io
from xml.etree import ElementTree

from matplotlib.figure import Figure

from cellpatch.figures.plotting import styled

_SVG = "http://www.w3.org/2000/svg"


@styled
def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as SVG for a page: described, its tips on elements that a keyboard reaches; ids begin with `name`."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314  (matplotlib's own, of a moment ago)
    root.attrib |= {"role": "group", "aria-label": description}  # not img: that would hide its marks
    for side in ("width", "height"):
        root.attrib.pop(side)  # the page scales it by its view box
    tips: dict[str, str] = vars(figure).get("_tips", {})
    for element in root.iter():
        name_of = element.get("id", "")
        if name_of in tips:
            element.attrib |= {"data-tip": tips[name_of], "tabindex": "0", "role": "img", "aria-label": tips[name_of]}
        for key, value in element.attrib.items():
            element.set(key, value.replace("url(#", f"url(#{name}-"))
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
    return ElementTree.tostring(root, encoding="unicode")
