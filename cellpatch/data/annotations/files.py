"""Find annotation files, and the image that each belongs to."""

import gzip
import json
import os
import unicodedata
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from cellpatch.data.images.pixels import SLIDE_SUFFIXES, SUFFIXES, ZARR_SUFFIX
from cellpatch.data.images.walk import walk_files
from cellpatch.data.paths import resolve_inside
from cellpatch.data.store.intake import Intake
from cellpatch.runtime.plain_text import is_plain, plain


def annotation_files(root: Path, points: str) -> list[Path]:
    """The annotation files: one path, or a glob below root; raises ValueError if there is none."""
    points = os.path.expanduser(points)  # noqa: PTH111 (a glob is not a path yet)
    if Path(points).is_file():
        file, top = Path(os.path.abspath(points)), Path(os.path.abspath(root))  # noqa: PTH100 (links are kept)
        return [root / file.relative_to(top) if file.is_relative_to(top) else Path(points)]
    files = sorted(root.glob(points)) if not Path(points).is_absolute() else []
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    for file in files:
        if not is_plain(file.name):
            raise ValueError(f"{plain(str(file))}: its name is not UTF-8 or holds control characters; rename it")
    if not files:
        raise ValueError(f"data.points: no file {points}, neither as it stands nor below {root}")
    return files


def shown_name(root: Path, file: Path) -> str:
    """How errors and cells name an annotation file: relative to root if it is below, else by its file name."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def read_json(file: Path) -> object:
    """A JSON file, of any Unicode encoding with a byte order mark, or compressed; raises ValueError if it is none."""
    try:
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        return json.loads(content.decode("utf-16" if utf16 else "utf-8-sig"), object_pairs_hook=unique_members)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: is not readable as JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"{file}: is not readable as JSON (it is nested too deeply)") from error


def unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; raises ValueError where a key has two values, of which programs take either."""
    members = dict(pairs)
    if len(members) != len(pairs):
        for key, value in pairs:
            if members[key] != value:
                raise ValueError(f"the key {key!r} has two values in one object")
    return members


class ImageIndex:
    """The images below a folder, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _all(self) -> list[Path]:
        return [Path(file) for file in walk_files(self.root, Intake(), (ZARR_SUFFIX,)) if _is_image(Path(file))]

    def at_path(self, file: Path, stated: str) -> str:
        """The path below root of an image that an annotation file names: as it stands there, else by its file name."""
        stated = stated.replace("\\", "/")
        if not Path(stated).is_absolute() and resolve_inside(self.root, stated, str(file)).is_file():
            return stated
        return self.named(file, [Path(stated).name]).relative_to(self.root).as_posix()

    def named(self, file: Path, names: Iterable[str]) -> Path:
        """The image of an annotation file, by one of its possible names: beside the file, else anywhere below root.

        A name is that of an image file, or lacks its suffix. Raises ValueError unless exactly one image matches.
        """
        wanted = {unicodedata.normalize("NFC", name) for name in names}
        beside = [each for each in sorted(file.parent.iterdir()) if _is_image(each)] if file.parent.is_dir() else []
        for images in ([each for each in beside if each.is_relative_to(self.root)], self._all):
            for matches in (
                [image for image in images if unicodedata.normalize("NFC", image.name) in wanted],
                [image for image in images if _stem(image) in wanted],
                [image for image in images if _stem(image).casefold() in {name.casefold() for name in wanted}],
            ):
                if len(matches) > 1:
                    found = ", ".join(shown_name(self.root, match) for match in matches[:5])
                    raise ValueError(f"{file}: belongs to one image, but {found} have its name; rename all but one")
                if matches:
                    return matches[0]
        raise ValueError(
            f"{file}: found no image named {' or '.join(sorted(wanted))} beside it or below {self.root}; "
            f"there are {len(self._all)} images"
        )


def annotated_names(file: Path) -> list[str]:
    """The names that the image of an annotation file may have: `a.geojson` belongs to `a.png`, `a.ome.tif` or `a`."""
    name = file.name.removesuffix(".gz")
    stem = Path(name).stem
    return [stem, stem.removesuffix(".ome")]


def _is_image(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix == ZARR_SUFFIX:
        return file.is_dir()
    return suffix in SUFFIXES | SLIDE_SUFFIXES and file.is_file() and not file.name.startswith(".")


def _stem(image: Path) -> str:
    return unicodedata.normalize("NFC", image.stem.removesuffix(".ome"))
