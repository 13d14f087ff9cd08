"""All benchmarks of this project one after the other, each in a process of its own: make bench.

    python benchmarks/suite.py [NAME ...] [--json FILE]

Prints a table of medians, quartiles and marks, and writes it with versions and hardware to FILE (build/bench.json).
Let nothing run beside it. Takes about half an hour on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from measured import ROOT, Measured, told

from cellpatch.runs.record import git_state, hardware, versions
from cellpatch.runtime.atomic_io import atomic_write

NAMES = [
    "training",
    "input",
    "end_to_end",
    "blur",
    "probe_sweep",
    "ingest",
    "start",
    "multirun",
    "predict",
    "figures",
    "scaling",
]


def run(name: str) -> list[Measured]:
    """What one benchmark finds; nothing, and a line, if it fails."""
    print(f"-- {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", str(file)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        found = [Measured(**row) for row in json.loads(file.read_text())]
    print("\n".join(map(told, found)), flush=True)
    return found


def as_rows(found: list[Measured]) -> list[dict]:
    """As JSON has them: values, their median, and whether the mark is held."""
    return [vars(each) | {"median": each.median, "held": each.held} for each in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run benchmarks.")
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    options = parser.parse_args()
    found = [each for name in options.names for each in run(name)]
    facts = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "git": git_state()}
    facts |= {"hardware": hardware(), "versions": versions(), "found": as_rows(found)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.json) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    missed = [each.name for each in found if each.held is False]
    print(f"\n{len(found)} numbers in {options.json}; marks missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
