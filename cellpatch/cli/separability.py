"""Command separability."""

import argparse
import sys
from pathlib import Path

from cellpatch.inference.separability import feature_card
from cellpatch.runs.locks import run_lock
from cellpatch.runs.record import read_record, update_record


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.features", description="What features of runs know.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders below runs_dir")
    parser.add_argument("--weights", type=Path, help="where the published weights are now, if elsewhere than then")
    options = parser.parse_args(arguments)
    for run in options.runs:
        try:
            found = feature_card(run, options.weights)
            with run_lock(run.parent, read_record(run)["identity"]):
                update_record(run, features=found)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        specimen = f"names the specimen in {100 * found['specimen_accuracy']:.1f} %"
        told = ", ".join(f"{name} {share:.2f}" for name, share in found["separability"].items())
        print(
            f"{run.name}: {specimen} (chance {100 * found['specimen_chance']:.1f} %); neighbours of the class: {told}"
        )


if __name__ == "__main__":
    main()
