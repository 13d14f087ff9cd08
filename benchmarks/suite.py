"""All benchmarks of this project one after the other, each in a process of its own: make bench.

    python benchmarks/suite.py [NAME ...] [--json FILE]

Prints a table of medians, quartiles and marks, and writes it with versions and hardware to FILE (build/bench.json).
Let nothing run beside it. Takes about two hours on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from measured import ROOT, Measured, as_line

from cellpatch.runs.provenance import git_state, hardware, versions
from cellpatch.runtime.atomic_io import atomic_write

NAMES = [
    "training",
    "input",
    "end_to_end",
    "shared_cores",
    "blur",
    "embedding",
    "probe_sweep",
    "ingest",
    "start",
    "multirun",
    "run_overhead",
    "predict",
    "slides",
    "figures",
    "scaling",
]


def run(name: str) -> list[Measured]:
    """The results of one benchmark; raises CalledProcessError if it fails."""
    print(f"-- {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", str(file)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        results = [Measured(**row) for row in json.loads(file.read_text())]
    print("\n".join(map(as_line, results)), flush=True)
    return results


def as_rows(results: Sequence[Measured]) -> list[dict[str, object]]:
    """Results as JSON states them: values, their median, and whether the mark is held."""
    return [asdict(each) | {"median": each.median, "held": each.held} for each in results]


def made_on() -> dict[str, object]:
    """Commit, machine and versions that numbers were made on."""
    git = git_state()
    return {"git": None if git is None else asdict(git), "hardware": asdict(hardware()), "versions": versions()}


def write_json(facts: Mapping[str, object], file: Path) -> None:
    """Write facts as JSON, whole or not at all."""
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run benchmarks.")
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    options = parser.parse_args()
    results = [each for name in options.names for each in run(name)]
    made = datetime.now(UTC).isoformat(timespec="seconds")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json({"made": made, **made_on(), "found": as_rows(results)}, options.json)
    missed = [each.name for each in results if each.held is False]
    print(f"\n{len(results)} numbers in {options.json}; marks missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
