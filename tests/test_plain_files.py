"""Plain PNG and JPEG files are decoded fast, to the same bits as by Pillow; all others are left to it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from cellpatch.data.images.pixels import decode_file
from cellpatch.data.images.plain_files import decode_plain

MOST = 10**6
PLAIN: list[dict[str, Any]] = [
    {"format": "PNG"},
    {"format": "PNG", "compress_level": 0, "dpi": (300, 300)},
    {"format": "JPEG"},
    {"format": "JPEG", "quality": 100, "subsampling": 0},
    {"format": "JPEG", "quality": 40, "subsampling": 1, "optimize": True},
    {"format": "JPEG", "restart_marker_blocks": 2, "comment": "a comment", "dpi": (300, 300)},
]


def _picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 6 % 256, y * 6 % 256, x * y % 256], axis=2).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def _saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def _by_pillow(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB")) if getattr(image, "n_frames", 1) == 1 else None
    except (OSError, SyntaxError, ValueError):
        return None


@pytest.mark.parametrize("options", PLAIN, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (27, 40), (40, 27), (64, 64), (231, 187)])
def test_plain_files_are_as_pillow_reads_them(options: dict[str, Any], size: tuple[int, int]) -> None:
    data = _saved(_picture(*size), **options)
    found = decode_plain(data, MOST)
    assert found is not None
    np.testing.assert_array_equal(found, _by_pillow(data))


def _odd() -> dict[str, bytes]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[274] = 6
    frames = [_picture(8, 8), _picture(8, 8).rotate(90)]
    return {
        "grey": _saved(_picture(8, 8, "L"), format="PNG"),
        "palette": _saved(_picture(8, 8, "P"), format="PNG"),
        "alpha": _saved(_picture(8, 8, "RGBA"), format="PNG"),
        "a transparent colour": _saved(_picture(8, 8), format="PNG", transparency=(0, 0, 0)),
        "turned PNG": _saved(_picture(8, 8), format="PNG", exif=exif),
        "turned JPEG": _saved(_picture(8, 8), format="JPEG", exif=exif),
        "animated": _saved(frames[0], format="PNG", save_all=True, append_images=frames[1:]),
        "a profile": _saved(_picture(8, 8), format="PNG", icc_profile=profile),
        "grey JPEG": _saved(_picture(8, 8, "L"), format="JPEG"),
        "CMYK": _saved(_picture(8, 8, "CMYK"), format="JPEG"),
        "progressive": _saved(_picture(8, 8), format="JPEG", progressive=True),
        "TIFF": _saved(_picture(8, 8), format="TIFF"),
        "nothing": b"",
        "a beginning": b"\x89PNG\r\n\x1a\n",
    }


@pytest.mark.parametrize(("name", "data"), _odd().items(), ids=_odd())
def test_odd_files_are_left_to_pillow(name: str, data: bytes) -> None:
    assert decode_plain(data, MOST) is None, name


@settings(max_examples=400, deadline=None)
@given(
    which=st.integers(0, len(PLAIN) - 1),
    at=st.floats(0, 1),
    new=st.binary(max_size=6),
    removed=st.integers(0, 40),
    cut=st.booleans(),
)
def test_what_is_taken_of_damaged_files_is_as_pillow_reads_it(
    which: int, at: float, new: bytes, removed: int, cut: bool
) -> None:
    """Pillow's message is the one for a file that it refuses: none of these may be taken."""
    whole = _saved(_picture(40, 40), **PLAIN[which])
    place = 2 + round(at * (len(whole) - 3))
    damaged = whole[:place] + new + (b"" if cut else whole[place + removed :])
    found, expected = decode_plain(damaged, MOST), _by_pillow(damaged)
    if found is not None:
        assert expected is not None
        np.testing.assert_array_equal(found, expected)


def test_large_images_are_left_to_pillow() -> None:
    data = _saved(_picture(40, 40), format="PNG")
    assert decode_plain(data, 1600) is not None
    assert decode_plain(data, 1599) is None


def test_a_damaged_file_has_pillows_message(tmp_path: Path) -> None:
    file = tmp_path / "cell.png"
    file.write_bytes(_saved(_picture(40, 40), format="PNG")[:-40])
    with pytest.raises(ValueError, match=r"cell\.png: cannot be read as an image \(image file is truncated"):
        decode_file(file, "refuse")
