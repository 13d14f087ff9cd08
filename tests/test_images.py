import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellpatch.data.images.openslides import OpenSlideReader
from cellpatch.data.images.pixels import read_rgb
from cellpatch.data.images.readers import ArrayReader, open_slide
from cellpatch.data.images.scale import ome_um_per_px
from cellpatch.data.images.tiff import TiffReader


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def test_rgb_grey_palette_and_opaque_alpha_are_converted(tmp_path: Path, rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    image.save(tmp_path / "rgb.png")
    image.convert("L").save(tmp_path / "grey.png")
    image.quantize(256).save(tmp_path / "palette.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "rgb.png"), rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / "alpha.png"), rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png")[..., 1], np.asarray(image.convert("L")))
    np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png"), np.asarray(image.quantize(256).convert("RGB")))


def test_non_ascii_paths(tmp_path: Path, rgb: np.ndarray) -> None:
    file = tmp_path / "組織 Ärzte" / "細胞 é.png"
    file.parent.mkdir()
    Image.fromarray(rgb).save(file)
    np.testing.assert_array_equal(read_rgb(file), rgb)


def test_bad_files_are_refused_by_name(tmp_path: Path, rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    cases = {
        "missing.png": "no such image",
        "empty.png": "is empty",
        "truncated.png": "cannot be read as an image",
        "text.png": "cannot be read as an image",
        "deep.png": "must be 8-bit .* but got I;16",
        "cmyk.jpg": "must be 8-bit .* but got CMYK",
        "deeprgb.png": "but got RGB, 16-bit",
        "glass.png": "transparent pixels",
        "bomb.png": "pixels",
    }
    (tmp_path / "empty.png").touch()
    image.save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    (tmp_path / "deeprgb.png").write_bytes(_png(rgb.astype(">u2") * 257))
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("RGBA").resize((9, 9)).rotate(45).save(tmp_path / "glass.png")
    (tmp_path / "bomb.png").write_bytes(_bomb())
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            read_rgb(tmp_path / name)
        assert name in str(caught.value)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(rgb16: np.ndarray) -> bytes:
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    height, width = rgb16.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in rgb16)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _bomb() -> bytes:
    """A small PNG whose header claims 60,000 x 60,000 pixels."""

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + _chunk(b"IEND", b"")
    )


def test_transparent_pixels_of_a_tile_are_outside(tmp_path: Path, rgb: np.ndarray) -> None:
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    rgba[10:] = 0
    Image.fromarray(rgba).save(tmp_path / "tile.png")
    plane = ArrayReader(tmp_path / "tile.png")
    assert plane.opaque(0, 0, 24, 10)
    assert not plane.opaque(0, 5, 4, 6)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiff_regions(tmp_path: Path, rgb: np.ndarray, planar: bool, tile: tuple[int, int] | None) -> None:
    file = tmp_path / "image.tif"
    data = np.moveaxis(rgb, -1, 0) if planar else rgb
    config = "separate" if planar else "contig"
    tifffile.imwrite(file, data, photometric="rgb", planarconfig=config, tile=tile, compression="zlib")
    plane = open_slide(file)
    assert isinstance(plane, TiffReader)
    assert (plane.width, plane.height) == (24, 20)
    np.testing.assert_array_equal(plane.region(3, 5, 7, 9), rgb[5:14, 3:10])


def test_grey_tiff_and_deep_tiff(tmp_path: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", rgb[..., 0])
    np.testing.assert_array_equal(TiffReader(tmp_path / "grey.tif").region(0, 0, 24, 20)[..., 2], rgb[..., 0])
    tifffile.imwrite(tmp_path / "deep.tif", rgb.astype(np.uint16), photometric="rgb")
    with pytest.raises(ValueError, match=r"deep.tif: must hold one 8-bit .* but got uint16"):
        TiffReader(tmp_path / "deep.tif")


@pytest.mark.parametrize("photometric", ["palette", "miniswhite", "separated"])
def test_tiffs_of_other_colours_are_refused(tmp_path: Path, rgb: np.ndarray, photometric: str) -> None:
    file = tmp_path / "odd.tif"
    if photometric == "palette":
        colours = np.zeros((3, 256), np.uint16)
        tifffile.imwrite(file, rgb[..., 0], photometric="palette", colormap=colours)
    elif photometric == "separated":
        tifffile.imwrite(file, np.dstack([rgb, rgb[..., :1]]), photometric="separated")
    else:
        tifffile.imwrite(file, rgb[..., 0], photometric="miniswhite")
    with pytest.raises(ValueError, match=f"odd.tif: must hold one 8-bit .* but got uint8 {photometric.upper()}"):
        TiffReader(file)


def test_a_tiff_in_strips_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rgb: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "strips.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "tiles.tif", rgb, photometric="rgb", tile=(16, 16))
    monkeypatch.setattr("cellpatch.data.images.tiff.MAX_PIXELS", 100)
    with pytest.raises(
        ValueError, match=r"strips.tif: 24x20 pixels in strips or turned, at most 100 are decoded whole"
    ):
        TiffReader(tmp_path / "strips.tif")
    assert TiffReader(tmp_path / "tiles.tif").width == 24


def test_scale_of_ome_metadata() -> None:
    def scale(attributes: str) -> float | None:
        return ome_um_per_px(Path("a.tif"), f"<OME><Image><Pixels {attributes}/></Image></OME>", 0)

    assert scale('PhysicalSizeX="0.5"') == 0.5
    assert scale("") is None
    assert ome_um_per_px(Path("a.tif"), "<OME/>", 0) is None
    for value, unit in (("250", "nm"), ("0.00025", "mm"), ("0.25", "\u03bcm"), ("0.25", "\u00b5m"), ("2500", "\u00c5")):
        assert scale(f'PhysicalSizeX="{value}" PhysicalSizeXUnit="{unit}"') == pytest.approx(0.25), unit
    assert scale('PhysicalSizeX="2.5e-5" PhysicalSizeXUnit="cm"') == pytest.approx(0.25)
    assert scale('PhysicalSizeX="1" PhysicalSizeXUnit="pixel"') is None
    for size in ("0", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match=rf"a.tif: OME metadata states a scale of {size} x {size} um/px"):
            scale(f'PhysicalSizeX="{size}"')
    with pytest.raises(ValueError, match=r"pixels that are not square, 0.25 x 0.5 um"):
        scale('PhysicalSizeX="0.25" PhysicalSizeY="0.5"')
    with pytest.raises(ValueError, match=r"states 1 um/px, as exports without calibration do"):
        scale('PhysicalSizeX="1" PhysicalSizeY="1.0"')


def test_broken_ome_metadata_names_the_file(tmp_path: Path, rgb: np.ndarray) -> None:
    file = tmp_path / "a.ome.tif"
    xml = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels PhysicalSizeX="abc"/></Image></OME>'
    tifffile.imwrite(file, rgb, photometric="rgb", description=xml, metadata=None)
    with pytest.raises(ValueError, match=r"a.ome.tif: cannot be read as a TIFF"):
        _ = TiffReader(file).stated_um_per_px()


def test_broken_tiff(tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0garbage")
    with pytest.raises(ValueError, match=r"broken.tif: cannot be read"):
        TiffReader(tmp_path / "broken.tif")


def test_ome_scale_is_read(tmp_path: Path, rgb: np.ndarray) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", rgb, photometric="rgb", metadata=metadata)
    assert TiffReader(tmp_path / "a.ome.tif").stated_um_per_px() == pytest.approx(0.25)


def test_real_ome_tiff(ome_tiff: Path) -> None:
    plane = open_slide(ome_tiff)
    whole = tifffile.imread(ome_tiff)
    whole = whole if whole.shape[-1] == 3 else np.moveaxis(whole, 0, -1)
    assert (plane.height, plane.width) == whole.shape[:2]
    np.testing.assert_array_equal(plane.region(50, 40, 30, 20), whole[40:60, 50:80])
    assert plane.stated_um_per_px() is not None
    assert 0.1 < plane.stated_um_per_px() < 1


def test_openslide_reads_what_tifffile_reads(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    file = tmp_path / "slide.tif"
    with tifffile.TiffWriter(file) as writer:  # a generic tiled pyramid
        for level in (rgb, rgb[::2, ::2]):
            writer.write(level, photometric="rgb", tile=(64, 64), compression="zlib", metadata=None)
    plane = OpenSlideReader(file)
    assert (plane.width, plane.height) == (400, 300)
    np.testing.assert_array_equal(plane.region(33, 44, 50, 60), rgb[44:104, 33:83])
    assert plane.opaque(0, 0, 100, 100)
