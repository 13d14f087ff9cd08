"""Write a small project of SYNTHETIC cells to practise on: cellpatch example DIR [--seed N]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.data.synthetic.example import ExampleCounts, write_example
from cellpatch.data.synthetic.example_readme import train_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch example",
        description="Write a small project of SYNTHETIC cells to practise on, as QuPath exports one.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new folder, or an empty one")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other cells (default: 0)")
    options = parser.parse_args(argv)
    try:
        counts = write_example(options.folder, options.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(_report(options.folder, counts)))


def _report(folder: Path, counts: ExampleCounts) -> list[str]:
    """What was written, and the command to go on with."""
    cells = ", ".join(f"{number} {name}" for name, number in counts.cells.items())
    return [
        f"{folder}: {counts.images} SYNTHETIC images of {counts.patients} patients; README.txt explains the files",
        f"  {sum(counts.cells.values())} classified cells: {cells}",
        f"  {counts.unclassified} cells without a class and {counts.regions} regions, which training leaves out",
        "",
        "Train a small network on it, a minute or two on a laptop's CPU:",
        "",
        train_command(str(folder)),
    ]


if __name__ == "__main__":
    main()
