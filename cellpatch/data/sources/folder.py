"""Source `folder`: class folders of crop images."""

import os
from functools import cached_property
from pathlib import Path

from cellpatch.data.images.readers import SUFFIXES
from cellpatch.data.sources.crop_files import CropFile, CropFormat, write_crop_files
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, relative_paths, specimen_regex
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.json_types import Json


def images_below(root: Path) -> list[Path]:
    """All image files below a folder, sorted; links are followed, since people link folders of images together."""
    files = [
        os.path.join(parent, name)  # noqa: PTH118 (hundreds of thousands of files: a Path and its order are slow)
        for parent, _, names in os.walk(root, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122
    ]
    files.sort(key=lambda file: file.split(os.sep))  # noqa: PTH206
    return list(map(Path, files))


class Folder(Source):
    """`root/CLASS/SPECIMEN/image.png`, or `root/CLASS/...` with the specimen by a regular expression.

    `specimen_pattern` is searched in the path relative to `root` (with `/`); its first group is the specimen.
    Raises ValueError on an empty folder, a path without a specimen or an unreadable image.
    """

    def __init__(  # the signature is the schema of conf/data/folder.yaml
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
        """All images below the root, sorted; raises ValueError if there is none."""
        files = images_below(self.root)
        if not files:
            raise ValueError(f"{self.root}: holds no image; needed is CLASS/SPECIMEN/image.png")
        return files

    def describe(self) -> Json:
        return self._parameters() | {"files": files_fingerprint(self.root, self.files)}

    def _parameters(self) -> Json:
        names = ("specimen_pattern", "side_px", "margin_px", "um_per_px", "licence", "synthetic")
        return {"kind": "folder"} | {name: getattr(self, name) for name in names}

    def fill(self, folder: Path) -> None:
        problems, crops = ErrorCollector(), []
        for file, relative in zip(self.files, relative_paths(self.root, self.files), strict=True):
            folders = relative.split("/")[:-1]
            specimen = self._specimen(relative, folders)
            if not folders:
                problems.add(f"{file}: lies in no class folder")
            elif not specimen:
                rule = self.specimen_pattern or "CLASS/SPECIMEN/image (or set data.specimen_pattern)"
                problems.add(f"{file}: gives no specimen by {rule}")
            else:
                crops.append(CropFile(file, relative, folders[0], specimen, relative))
        problems.raise_if_any()
        classes = sorted({crop.label for crop in crops})
        crop_format = CropFormat(self.side_px, self.margin_px, self.um_per_px)
        write_crop_files(folder, crops, classes, self._parameters(), crop_format)

    def _specimen(self, relative: str, folders: list[str]) -> str | None:
        """The specimen of an image, or None if its path names none."""
        if self._regex is None:
            return folders[1] if len(folders) >= 2 else None
        match = self._regex.search(relative)
        return match.group(1) if match else None
