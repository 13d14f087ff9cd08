"""Measure what runs' features know: cellpatch features RUN [RUN ...] [--weights FILE].

Each run's card is written into its record.
"""

import argparse
import sys
from pathlib import Path

from cellpatch.inference.separability import feature_card
from cellpatch.runs.locks import run_lock
from cellpatch.runs.stored_run import StoredRun


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch features", description="What features of runs know.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders below runs_dir")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    options = parser.parse_args(arguments)
    for folder in options.runs:
        try:
            card = feature_card(folder, options.weights)
            with run_lock(folder.parent, StoredRun.open(folder).record.identity):
                StoredRun.open(folder).with_features(card)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        shares = ", ".join(f"{name} {share:.2f}" for name, share in card.separability.items())
        print(
            f"{folder.name}: predicts the specimen of {100 * card.specimen_accuracy:.1f} % of the cells "
            f"(chance {100 * card.specimen_chance:.1f} %); neighbours of the class: {shares}"
        )


if __name__ == "__main__":
    main()
