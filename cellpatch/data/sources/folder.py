"""Source `folder`: class folders of crop images."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from cellpatch.data.images.readers import SUFFIXES
from cellpatch.data.sources.crop_files import CropFile, write_files
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, relative_paths, specimen_regex
from cellpatch.runtime.error_collector import ErrorCollector


def images_below(root: Path) -> list[Path]:
    """All image files below a folder, sorted; links are followed, as people link folders of images together."""
    found = [
        os.path.join(at, name)  # noqa: PTH118 (hundreds of thousands of files: a Path and its order are slow)
        for at, _, names in os.walk(root, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122
    ]
    found.sort(key=lambda file: file.split(os.sep))  # noqa: PTH206
    return list(map(Path, found))


class Folder(Source):
    """`root/CLASS/SPECIMEN/image.png`, or `root/CLASS/...` with the specimen by a regular expression.

    `specimen_pattern` is searched in the path below `root` (with `/`); its first group is the specimen.
    Raises ValueError on an empty folder, a path without a specimen or an unreadable image.
    """

    def __init__(
        self,
        root: str,
        specimen_pattern: str | None,
        side_px: int | None,
        margin_px: int,
        um_per_px: float | None,
        licence: str,
        synthetic: bool,
    ) -> None:
        self.root = folder_of(root, "data.root")
        self.specimen_pattern = specimen_pattern
        self._regex = specimen_regex(specimen_pattern)
        self.side_px = side_px
        self.margin_px = margin_px
        self.um_per_px = um_per_px
        self.licence = licence
        self.synthetic = synthetic

    @cached_property
    def files(self) -> list[Path]:
        found = images_below(self.root)
        if not found:
            raise ValueError(f"{self.root}: holds no image; needed is CLASS/SPECIMEN/image.png")
        return found

    def describe(self) -> dict[str, Any]:
        return self._parameters() | {"files": files_fingerprint(self.root, self.files)}

    def _parameters(self) -> dict[str, Any]:
        names = ("specimen_pattern", "side_px", "margin_px", "um_per_px", "licence", "synthetic")
        return {"kind": "folder"} | {name: getattr(self, name) for name in names}

    def fill(self, folder: Path) -> None:
        problems, crops = ErrorCollector(), []
        for file, place in zip(self.files, relative_paths(self.root, self.files), strict=True):
            parts = place.split("/")
            specimen = self._specimen(place, parts)
            if len(parts) < 2:
                problems.add(f"{file}: lies in no class folder")
            elif not specimen:
                how = self.specimen_pattern or "CLASS/SPECIMEN/image (or set data.specimen_pattern)"
                problems.add(f"{file}: gives no specimen by {how}")
            else:
                crops.append(CropFile(file, place, parts[0], specimen, place))
        problems.raise_if_any()
        classes = sorted({crop.label for crop in crops})
        write_files(folder, crops, classes, self._parameters(), self.side_px, self.margin_px, self.um_per_px)

    def _specimen(self, place: str, parts: list[str]) -> str | None:
        if self._regex is None:
            return parts[1] if len(parts) >= 3 else None
        match = self._regex.search(place)
        return match.group(1) if match else None
