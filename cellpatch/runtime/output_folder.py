"""A folder that a verb writes: whole or not at all, and replaced only if it holds nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cellpatch.runtime.atomic_io import temporary_directory


def check_output_folder(out: Path, overwrite: bool, names: Sequence[str]) -> None:
    """Raise ValueError if something is at `out`, unless it may be replaced and holds `names` alone."""
    if not out.exists():
        return
    if not overwrite:
        raise ValueError(f"--out {out} exists: choose another folder, or --overwrite to replace it")
    others = sorted({each.name for each in out.iterdir()} - {*names}) if out.is_dir() else [out.name]
    if others:
        raise ValueError(f"--out {out} must hold nothing but {', '.join(names)} to be replaced, but has {others[0]}")


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `out` on success, and is removed on any error."""
    with temporary_directory(out.parent, out.name) as temporary:
        folder = temporary / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(temporary / "old")
        folder.rename(out)
