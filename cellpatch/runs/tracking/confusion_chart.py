"""The confusion matrix as an image, drawn by Pillow: matplotlib takes 0.3 s for 16 classes, in each run of a grid."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from cellpatch.runs.record import Record

_LARGEST_PX = 2400
_FONT_PX, _NUMBER_PX = 11, 10
_GAP_PX = 6
_WITH_NUMBERS = 20  # classes
_WHITE, _BLUE, _INK = (255, 255, 255), (8, 48, 107), (0, 0, 0)


def draw_confusion(record: Record) -> UInt8[np.ndarray, "height width 3"]:
    """Shares of each true class (a row) by predicted class (a column), with numbers up to twenty classes."""
    counts = np.asarray(record.clean.confusion, np.float64)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    n = len(record.classes)
    side = min(_LARGEST_PX, 350 + 38 * n)
    font, small = _font(_FONT_PX), _font(_NUMBER_PX)
    top = _FONT_PX + 3 * _GAP_PX
    names_px = min(side // 2, round(max(map(font.getlength, record.classes))) + 2 * _GAP_PX)
    cell_px = max(1, (side - top - names_px - _GAP_PX) // n)

    image = Image.new("RGB", (side, side), _WHITE)
    draw = ImageDraw.Draw(image)
    title = f"{record.settings.model.name}: share of the true class (row) by predicted class (column)"
    draw.text((_GAP_PX, _GAP_PX), title, _INK, font)
    chart = Image.fromarray(_blues(shares)).resize((n * cell_px,) * 2, Image.Resampling.NEAREST)
    image.paste(chart, (names_px, top))
    for i, j in np.argwhere(shares >= 0.005) if n <= _WITH_NUMBERS else ():
        x, y = names_px + (j + 0.5) * cell_px, top + (i + 0.5) * cell_px
        ink = _WHITE if shares[i, j] > 0.5 else _INK
        draw.text((x, y), f"{100 * shares[i, j]:.0f}", ink, small, anchor="mm")
    names = _draw_names(record.classes, font, names_px, cell_px)
    image.paste(names, (0, top))
    image.paste(names.transpose(Image.Transpose.ROTATE_90), (names_px, top + n * cell_px))
    return np.asarray(image)


def _draw_names(names: list[str], font: ImageFont.FreeTypeFont, width: int, row_px: int) -> Image.Image:
    """A row for each name, which ends at the right."""
    image = Image.new("RGB", (width, len(names) * row_px), _WHITE)
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        draw.text((width - _GAP_PX, (row + 0.5) * row_px), name, _INK, font, anchor="rm")
    return image


def _blues(shares: Float[np.ndarray, "n n"]) -> UInt8[np.ndarray, "n n 3"]:
    white, blue = np.array(_WHITE), np.array(_BLUE)
    return np.rint(white + shares[..., None] * (blue - white)).astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: it has Greek and Cyrillic letters."""
    from matplotlib import get_data_path  # takes 0.1 s to import

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
