"""Files below a folder, without what systems and tools leave there."""

import os
from collections.abc import Sequence
from pathlib import Path

from cellpatch.data.store.intake import Intake

_SYSTEM = {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system or a tool keeps for itself."""
    return name.startswith((".", "~$")) or name.casefold() in _SYSTEM


def _without_system(names: list[str]) -> list[str]:
    return [name for name in names if not is_system_name(name)]


def _contains(folder: str, inner: str) -> bool:
    return os.path.commonpath([folder, inner]) == folder


def by_parts(path: str) -> str:
    """What sorts paths by their parts, as `Path` objects are sorted; no name holds the character 0."""
    return path.replace(os.sep, "\0")


def walk_files(root: Path, intake: Intake, folders_as_files: Sequence[str] = ()) -> list[str]:
    """All files below a folder, sorted; as strings, for a study has hundreds of thousands.

    Each real folder is read once, so links to a parent do not multiply its files. Links to folders are followed, since
    people link folders of images together. Hidden and system names, and links to folders that are read already, are
    counted in `intake`. Folders with a suffix of `folders_as_files` count as files.
    """
    files: list[str] = []
    seen: set[str] = set()
    waiting = [str(root)]
    while waiting:  # real folders first: a link to one of them adds nothing
        links: list[str] = []
        for top in waiting:
            real_top = os.path.realpath(top)
            if real_top in seen or (top != str(root) and _contains(real_top, os.path.realpath(root))):
                intake.left_out["links to folders that are read already"] += 1
                continue
            for parent, folders, names in os.walk(top):
                real = os.path.realpath(parent)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                own_folders, own_names = _without_system(folders), _without_system(names)
                hidden = len(folders) - len(own_folders) + len(names) - len(own_names)
                if hidden:
                    intake.left_out["hidden or system files and folders"] += hidden
                as_files = {name for name in own_folders if name.lower().endswith(tuple(folders_as_files) or "\0")}
                kept = [name for name in own_folders if name not in as_files]
                links += [path for name in kept if os.path.islink(path := os.path.join(parent, name))]  # noqa: PTH114, PTH118
                folders[:] = kept
                above = os.path.join(parent, "")  # noqa: PTH118
                files += [above + name for name in [*own_names, *sorted(as_files)]]
        waiting = sorted(links)
    files.sort(key=by_parts)
    return files
