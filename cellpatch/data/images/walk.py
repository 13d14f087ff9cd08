"""Files below a folder, without what systems and tools leave there."""

import os
from collections.abc import Sequence
from pathlib import Path

from cellpatch.data.store.intake import Intake

_SYSTEM = {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system or a tool keeps for itself."""
    return name.startswith((".", "~$")) or name.casefold() in _SYSTEM


def _contains(folder: str, inner: str) -> bool:
    return os.path.commonpath([folder, inner]) == folder


def walk_files(root: Path, intake: Intake, folders_as_files: Sequence[str] = ()) -> list[Path]:
    """All files below a folder, sorted; each real folder is read once, so links to a parent do not multiply its files.

    Links to folders are followed, since people link folders of images together. Hidden and system names, and links to
    folders that are read already, are counted in `intake`. Folders with a suffix of `folders_as_files` count as files.
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
                hidden = [name for name in [*folders, *names] if is_system_name(name)]
                if hidden:
                    intake.left_out["hidden or system files and folders"] += len(hidden)
                as_files = {name for name in folders if name.lower().endswith(tuple(folders_as_files) or "\0")}
                kept = [name for name in folders if not is_system_name(name) and name not in as_files]
                links += [path for name in kept if os.path.islink(path := os.path.join(parent, name))]  # noqa: PTH114, PTH118
                folders[:] = kept
                files += [
                    os.path.join(parent, name)  # noqa: PTH118 (hundreds of thousands of files: a Path is slow)
                    for name in [*names, *sorted(as_files)]
                    if not is_system_name(name)
                ]
        waiting = sorted(links)
    files.sort(key=lambda file: file.split(os.sep))  # noqa: PTH206
    return list(map(Path, files))
