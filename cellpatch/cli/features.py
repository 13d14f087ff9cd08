"""Measure what runs' features know: cellpatch features RUNS ... [--weights FILE].

RUNS are runs and folders of runs; anything else is skipped. Each run's card is written into its record. A run that
allows none is reported; the rest continues, and the exit status is 1.
"""

import argparse
import sys
from pathlib import Path

from cellpatch.inference.separability import feature_card
from cellpatch.runs.folders import require_runs
from cellpatch.runs.locks import run_lock
from cellpatch.runs.stored_run import StoredRun


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch features", description="What features of runs know.")
    parser.add_argument("runs", type=Path, nargs="+", help="runs, or folders of runs")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    options = parser.parse_args(arguments)
    try:
        folders = require_runs(options.runs)
    except ValueError as error:
        sys.exit(f"error: {error}")
    complete = True
    for folder in folders:
        try:
            card = feature_card(folder, options.weights)
            with run_lock(folder.parent, StoredRun.open(folder).record.identity):
                StoredRun.open(folder).with_features(card)
        except (ValueError, OSError) as error:
            where = "" if folder.name in str(error) else f"{folder}: "
            print(f"error: {where}{error}", file=sys.stderr)
            complete = False
            continue
        shares = ", ".join(f"{name} {share:.2f}" for name, share in card.separability.items())
        print(
            f"{folder.name}: predicts the specimen of {100 * card.specimen_accuracy:.1f} % of the cells "
            f"(chance {100 * card.specimen_chance:.1f} %); neighbours of the class: {shares}"
        )
    if not complete:
        sys.exit(1)


if __name__ == "__main__":
    main()
