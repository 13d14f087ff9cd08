"""Measure what runs' features predict: cellpatch features RUNS ... [--weights FILE].

RUNS are runs and folders of runs; anything else is skipped. Each run's card is written into its record. A run that
allows none is reported; the rest continues, and the exit status is 1.
"""

import argparse
from pathlib import Path

from cellpatch.cli.each_run import for_each_run, runs_of
from cellpatch.inference.separability import feature_card
from cellpatch.runs.locks import lock_to_write, require_writable_run
from cellpatch.runs.stored_run import StoredRun


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch features",
        description="Measure how well features predict the specimen (batch effect) and separate classes.",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="runs, or folders of runs")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    options = parser.parse_args(arguments)
    for_each_run(runs_of(options.runs), lambda run: _measure(run, options.weights))


def _measure(folder: Path, weights: Path | None) -> bool:
    """Write a run's card into its record and print it."""
    require_writable_run(folder)
    card = feature_card(folder, weights)
    with lock_to_write(folder.parent, StoredRun.open(folder).record.identity):
        StoredRun.open(folder).with_features(card)
    shares = ", ".join(f"{name} {share:.2f}" for name, share in card.separability.items())
    print(
        f"{folder.name}: predicts the specimen of {100 * card.specimen_accuracy:.1f} % of the cells (chance "
        f"{100 * card.specimen_chance:.1f} %: more is a batch effect); share of nearest neighbours of the cell's own "
        f"class: {shares}"
    )
    return True


if __name__ == "__main__":
    main()
