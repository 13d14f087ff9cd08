"""Source `folder`: class folders of crop images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path

from cellpatch.data.class_names import is_missing, join_names
from cellpatch.data.images.pixels import SUFFIXES, Orientation
from cellpatch.data.images.walk import is_system_name, walk_files
from cellpatch.data.sources.crop_files import CropFormat, write_crop_files
from cellpatch.data.sources.source import Source, files_fingerprint, folder_of, relative_paths, specimen_regex
from cellpatch.data.store.intake import Contradictions, Intake
from cellpatch.data.store.writer import CellRows
from cellpatch.runtime.error_collector import ErrorCollector
from cellpatch.runtime.json_types import Json
from cellpatch.runtime.plain_text import is_plain, plain

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_PARTS |= dict.fromkeys(("val", "valid", "validation"), "validation")

IN_NAME = """'data.specimen_pattern="([^/_]+)_[^/]*$"'"""  # what finds a specimen there, as typed in a shell
_DEEPER = "images deeper than CLASS/SPECIMEN, whose specimen is the folder below the class"


def images_below(root: Path, intake: Intake) -> list[str]:
    """All image files below a folder, sorted; what else lies there is counted in `intake`.

    Raises one ValueError that lists the files whose names are not UTF-8 or hold control characters.
    """
    files = walk_files(root, intake)
    problems = ErrorCollector()
    for path in relative_paths(root, files):
        if not is_plain(path):
            problems.add(f"{root}/{plain(path)}: its name is not UTF-8 or holds control characters; rename it")
    problems.raise_if_any()
    images, others = [], Counter[str]()
    for file in files:
        suffix = file[file.rfind(".") :].lower()  # hundreds of thousands of files: a Path each takes seconds
        if suffix in SUFFIXES:
            images.append(file)
        else:
            others[Path(file).suffix.lower() or "no suffix"] += 1
    intake.left_out.update({f"files of kind {suffix}, no images": count for suffix, count in others.items()})
    return images


class Folder(Source):
    """`root/CLASS/SPECIMEN/image.png`, or `root/CLASS/...` with the specimen by a regular expression.

    Folders `train`, `val` and `test` above the classes are the split; an image without a specimen then counts as one.
    `specimen_pattern` is searched in the path relative to `root` (with `/`); its first group is the specimen. Raises
    ValueError on an empty folder, a class folder without images, a path without a specimen or an unreadable image.
    """

    def __init__(  # the signature is the schema of conf/data/folder.yaml
        self,
        root: str,
        specimen_pattern: str | None,
        side_px: int | None,
        margin_px: int,
        um_per_px: float | None,
        orientation: Orientation,
        contradictions: Contradictions,
        licence: str,
        synthetic: bool,
    ) -> None:
        self.root = folder_of(root, "data.root")
        self.specimen_pattern = specimen_pattern
        self._regex = specimen_regex(specimen_pattern)
        self.crop_format = CropFormat(side_px, margin_px, um_per_px, orientation, contradictions)
        self.licence = licence
        self.synthetic = synthetic
        self._intake = Intake()

    @cached_property
    def files(self) -> list[str]:
        """All images below the root, sorted; raises ValueError if there is none, or a class folder has none."""
        files = images_below(self.root, self._intake)
        if not files:
            raise ValueError(
                f"{self.root}: contains no readable image; expected CLASS/SPECIMEN/image.png. "
                + "; ".join(self._intake.sentences())
            )
        first = {path.partition("/")[0] for path in relative_paths(self.root, files)}
        without = [each for each in self.root.iterdir() if each.is_dir() and each.name not in first]
        for folder in sorted(each for each in without if not is_system_name(each.name)):
            others = [Path(file).suffix for file in walk_files(folder, Intake())]
            if others:
                raise ValueError(
                    f"{folder}: holds {len(others)} files of kind {', '.join(sorted(set(others)))} and no image that "
                    f"is read ({', '.join(sorted(SUFFIXES))}); convert them, or move the folder away"
                )
        return files

    def describe(self) -> Json:
        return self._parameters() | {"files": files_fingerprint(self.root, self.files)}

    def _parameters(self) -> Json:
        own: Json = {"kind": "folder", "licence": self.licence, "synthetic": self.synthetic}
        return own | {"specimen_pattern": self.specimen_pattern} | asdict(self.crop_format)

    def fill(self, folder: Path) -> None:
        problems, without_specimen = ErrorCollector(), list[str]()
        labels, specimens, splits = list[str](), list[str](), list[str | None]()
        intake = self._intake.copy()
        relative = relative_paths(self.root, self.files)
        split_by_folder = self._is_split(relative)
        is_no_class = cache(is_missing)
        for file, path in zip(self.files, relative, strict=True):
            above = path.split("/")[:-1]
            split = _PARTS[above.pop(0).lower()] if split_by_folder and above else None
            specimen = self._specimen(path, above) or (path if split and self._regex is None else None)
            if not above:
                problems.add(f"{file}: is not in a class folder")
            elif not specimen:
                without_specimen.append(file)
            elif is_no_class(above[0]):
                problems.add(f"{file}: the folder {above[0]!r} is not a class name; rename it")
            else:
                if len(above) > 2 and self._regex is None:
                    intake.doubtful[_DEEPER] += 1
                if specimen == path:
                    intake.doubtful["cells that count as a specimen each, for their path names none"] += 1
                labels.append(above[0])
                specimens.append(specimen)
                splits.append(split)
        self._add_without_specimen(without_specimen, problems)
        problems.raise_if_any()
        labels = join_names(labels, intake)
        rows = CellRows(cell_id=relative, label=labels, specimen=specimens, source=relative, split=splits)
        classes = sorted(set(labels))
        write_crop_files(folder, self.files, rows, classes, self._parameters(), self.crop_format, intake)

    def _add_without_specimen(self, files: Sequence[str], problems: ErrorCollector) -> None:
        """Add what to do about files without a specimen: one problem if no file has one."""
        rule = self.specimen_pattern or "CLASS/SPECIMEN/image"
        hint = "" if self.specimen_pattern else f". If a file's name begins with it, as in p07_12.png: {IN_NAME}"
        if files and len(files) == len(self.files):
            problems.add(f"{files[0]} and all other images have no specimen according to {rule}{hint}")
            return
        for file in files:
            problems.add(f"{file}: has no specimen according to {rule}{hint}")

    def _is_split(self, paths: list[str]) -> bool:
        """Whether the first folders are the parts of a split; raises ValueError if only some of them are."""
        first = {path.split("/")[0] for path in paths if "/" in path}
        parts = {name for name in first if name.lower() in _PARTS}
        if not parts or (len(parts) == 1 and parts != first):
            return False  # one class may be called test
        missing = {"train", "validation", "test"} - {_PARTS[name.lower()] for name in parts}
        if parts != first or missing:
            raise ValueError(
                f"{self.root}: holds the folders {', '.join(sorted(first))}, which are only in part a split: "
                "needed are train, val and test with the classes in each, or class folders alone (set data.root to one "
                "part)"
            )
        return True

    def _specimen(self, relative: str, folders: list[str]) -> str | None:
        """The specimen of an image, or None if its path names none."""
        if self._regex is None:
            return folders[1] if len(folders) >= 2 else None
        match = self._regex.search(relative)
        return match.group(1) if match else None
