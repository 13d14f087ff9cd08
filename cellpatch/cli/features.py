"""Command features."""

import argparse
import sys
from pathlib import Path

from cellpatch.probing.feature_cache import _GIB, _is_entry, _size, clear


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.embeddings", description="List or clear kept features.")
    parser.add_argument("folder", nargs="?", default="embeddings", type=Path)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--clear", nargs="+", metavar="NAME", default=[], help="delete these entries")
    group.add_argument("--clear-all", action="store_true", help="delete every entry, and what killed processes left")
    options = parser.parse_args(arguments)
    entries = {folder.name: _size(folder) for folder in sorted(options.folder.glob("*/")) if _is_entry(folder)}
    unknown = sorted(set(options.clear) - set(entries))
    if unknown:
        sys.exit(f"error: {options.folder} has no {unknown}; it has {list(entries)}")
    for name in list(entries) if options.clear_all else dict.fromkeys(options.clear):
        if clear(options.folder / name):
            print(f"deleted {name}, {entries.pop(name) / 2**20:.1f} MiB")
        else:
            print(f"left {name}: a process is at work on it")
    for name, size in entries.items():
        print(f"{size / 2**20:10.1f} MiB  {name}{'  (unfinished)' if name.startswith('.') else ''}")
    print(f"{sum(entries.values()) / _GIB:.2f} GiB in {len(entries)} entries of {options.folder}")


if __name__ == "__main__":
    main()
