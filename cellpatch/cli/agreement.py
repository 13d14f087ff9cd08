"""Compare the labels of several annotators, and write consensus labels: cellpatch agreement FILE [--out FOLDER]."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cellpatch.data.annotators import Ratings, read_ratings
from cellpatch.runtime.logs import log_to_terminal
from cellpatch.runtime.output_folder import check_output_folder, output_folder
from cellpatch.runtime.plain_text import plain
from cellpatch.runtime.spreadsheet import csv_text

log = logging.getLogger(__name__)

AGREEMENT, CONFUSIONS, CONSENSUS = FILES = "agreement.csv", "confusions.csv", "consensus.csv"
_EPILOG = """\
FILE is CSV, TSV or Parquet with the columns annotator, class and cell_id (or path); specimen or image, if there is
one, gives intervals. Points of annotators who marked cells by themselves have other ids: --within joins them by place.

    cellpatch agreement labels.csv
    cellpatch agreement points.csv --within 4 --um-per-px 0.25
    cellpatch agreement labels.csv --runs runs --out crowdlab

consensus.csv has one label for each cell, for data=points or data=table. --runs are runs of all folds on cells of the
same cell_id (data.split=kfold), such as those trained on an earlier consensus.csv: their probabilities vote too."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the annotators of a table; ends with status 1 if that is not possible."""
    parser = argparse.ArgumentParser(
        prog="cellpatch agreement",
        description="Agreement of annotators, and consensus labels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a table of labels by several annotators")
    parser.add_argument("--within", metavar="UM", type=float, help="points that are this near are of one cell")
    parser.add_argument("--um-per-px", metavar="SCALE", type=float, help="scale of x and y, where they are pixels")
    parser.add_argument("--runs", metavar="RUNS", nargs="+", type=Path, help="consensus with networks (CROWDLAB)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("agreement"), help="a new folder: agreement")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output in that folder")
    options = parser.parse_args(arguments)
    log_to_terminal()
    try:
        print(plain(_compare(options)))
    except (ValueError, OSError) as error:
        sys.exit(plain(f"error: {error}"))


def _compare(options: argparse.Namespace) -> str:
    """Write the folder; gives what to print."""
    from cellpatch.analysis.agreement import confusion_table, crowdlab, majority, pairs_table

    check_output_folder(options.out, options.overwrite, FILES)
    ratings = read_ratings(options.file, options.within, options.um_per_px)
    consensus = majority(ratings) if options.runs is None else crowdlab(ratings, _probabilities(ratings, options.runs))
    pairs = pairs_table(ratings)
    if options.runs is not None and not pairs["agreement"][0] > (share := majority(ratings).largest_share):
        log.warning(
            "annotators agree in %.1f %% of labels, no more than if all named the largest class (%.1f %%): CROWDLAB "
            "then follows the networks; prefer votes, without --runs",
            100 * pairs["agreement"][0],
            100 * share,
        )
    labelled = ratings.cells.assign(
        **{
            "class": np.array(ratings.classes)[consensus.labels],
            "annotators": (ratings.labels >= 0).sum(axis=1),
            "quality": consensus.quality.round(4),
            "tied": np.where(consensus.tied, "yes", "no"),
        }
    )
    with output_folder(options.out) as folder:
        for name, table in ((AGREEMENT, pairs), (CONFUSIONS, confusion_table(ratings)), (CONSENSUS, labelled)):
            (folder / name).write_text(csv_text(table), encoding="utf-8")
    by_number = np.bincount((ratings.labels >= 0).sum(axis=1))
    counts = ", ".join(f"{n} by {k}" for k, n in enumerate(by_number.tolist()) if n)
    lines = [f"{len(ratings.labels)} cells, labelled {counts} of {len(ratings.annotators)} annotators"]
    lines += [f"  {sentence}" for sentence in ratings.intake.sentences()]
    lines += [_line(row) for row in pairs.to_dict("records")]
    lines += [] if ratings.groups is not None else ["no interval: neither specimen nor image is stated"]
    lines += [f"{options.out / CONSENSUS}: {len(labelled)} labels, {consensus.tied.sum()} of them tied votes"]
    return "\n".join(lines)


def _line(row: dict) -> str:
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})"
    names = " and ".join(name for name in (row["first"], row["second"]) if name)
    value = "none" if pd.isna(row["value"]) else f"{row['value']:.3f}"
    share = "" if pd.isna(row["agreement"]) else f", equal labels {100 * row['agreement']:.1f} %"
    return f"{names}: {row['measure']} {value}{interval}, {row['cells']} cells{share}"


def _probabilities(ratings: Ratings, runs: Sequence[Path]) -> np.ndarray:
    """Out-of-sample probabilities of the cells by their ids; raises ValueError if a cell, or a class, has none."""
    from cellpatch.analysis.out_of_sample import one_group, out_of_sample
    from cellpatch.analysis.results import read_results

    tested = out_of_sample(one_group(read_results(*runs)))
    if sorted(tested.classes) != sorted(ratings.classes):
        raise ValueError(f"--runs must know the classes {list(ratings.classes)}, but know {list(tested.classes)}")
    if "cell_id" not in ratings.cells and "path" not in ratings.cells:
        raise ValueError("--runs needs a column cell_id")
    ids = ratings.cells["cell_id" if "cell_id" in ratings.cells else "path"].astype(str)
    position = pd.Index(tested.cells["cell_id"]).get_indexer(ids)
    untested = ids[position < 0]
    if len(untested):
        raise ValueError(
            f"--runs must have tested each cell, but {len(untested)} of {len(ids)} are not among their test cells: "
            f"{untested.iloc[0]} is one; run all folds (data.split=kfold)"
        )
    order = [tested.classes.index(name) for name in ratings.classes]
    return tested.probabilities[position][:, order]


if __name__ == "__main__":
    main()
