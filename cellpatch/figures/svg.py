"""A figure as SVG for a page: the tooltips of its marks, within reach of mouse and keyboard."""

import io
from xml.etree import ElementTree

from matplotlib.figure import Figure

from cellpatch.figures.plotting import styled, tooltips
from cellpatch.runtime.plain_text import plain

_SVG = "http://www.w3.org/2000/svg"


@styled
def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as SVG with a description, and tooltips on elements that a keyboard reaches; ids begin with `name`."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(plain(stream.getvalue()))  # noqa: S314  (matplotlib wrote it just now)
    root.attrib |= {"role": "group", "aria-label": plain(description)}  # not img: that would hide its marks
    for side in ("width", "height"):
        root.attrib.pop(side)  # the page scales it by its view box
    tips = tooltips(figure)
    for element in root.iter():
        tip = tips.get(element.get("id", ""))
        if tip is not None:
            tip = plain(tip)
            element.attrib |= {"data-tip": tip, "tabindex": "0", "role": "img", "aria-label": tip}
        for key, value in element.attrib.items():
            element.set(key, value.replace("url(#", f"url(#{name}-"))
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
    return ElementTree.tostring(root, encoding="unicode")
