"""List and clear the feature cache.

cellpatch embeddings [DIR] [--clear NAME ... | --clear-all]
"""

import argparse
import sys
from pathlib import Path

from cellpatch.probing.feature_cache import GIB
from cellpatch.probing.feature_entries import clear_entry, list_entries

MIB = 2**20


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch embeddings", description="List or clear stored features.")
    parser.add_argument("folder", nargs="?", default="embeddings", type=Path)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--clear", nargs="+", metavar="NAME", default=[], help="delete these entries")
    group.add_argument("--clear-all", action="store_true", help="delete every entry, and what killed processes left")
    options = parser.parse_args(arguments)
    sizes = list_entries(options.folder)
    unknown = sorted(set(options.clear) - set(sizes))
    if unknown:
        sys.exit(f"error: {options.folder} has no {unknown}; it has {list(sizes)}")
    for name in list(sizes) if options.clear_all else dict.fromkeys(options.clear):
        if clear_entry(options.folder / name):
            print(f"deleted {name}, {sizes.pop(name) / MIB:.1f} MiB")
        else:
            print(f"skipped {name}: in use by another process")
    for name, size in sizes.items():
        print(f"{size / MIB:10.1f} MiB  {name}{'  (unfinished)' if name.startswith('.') else ''}")
    print(f"{sum(sizes.values()) / GIB:.2f} GiB in {len(sizes)} entries of {options.folder}")


if __name__ == "__main__":
    main()
