"""List labels that somebody should look at again: cellpatch audit RUNS [--out FOLDER]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.analysis.results import read_results
from cellpatch.cli.selection import add_options, selection_of
from cellpatch.runtime.logs import log_to_terminal
from cellpatch.runtime.output_folder import check_output_folder
from cellpatch.runtime.plain_text import plain

_EPILOG = """\
Runs of all folds (data.split=kfold data.split.fold=0,1,2,3,4) audit every cell; other runs audit their test cells.
Probabilities are averaged over seeds. Of several models or limits, choose one:

    cellpatch audit runs --models customvit --limit 16384 --out audit

The folder holds audit.html, audit.csv and geojson/IMAGE.geojson, which QuPath opens on the image."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Audit the runs that the arguments name; ends with status 1 if that is not possible."""
    parser = argparse.ArgumentParser(
        prog="cellpatch audit",
        description="List likely label errors, near duplicates across specimens, and outliers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", type=Path, help="folders of runs, or runs")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("audit"), help="a new folder: audit")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier audit in that folder")
    parser.add_argument("--outliers", metavar="N", type=int, default=50, help="most outliers to list: 50; 0 for none")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="the published weights, if they have moved")
    add_options(parser)
    options = parser.parse_args(arguments)
    log_to_terminal()
    try:
        _audit(options)
    except (ValueError, OSError) as error:
        sys.exit(plain(f"error: {error}"))


def _audit(options: argparse.Namespace) -> None:
    from cellpatch.inference.audit import audit  # seconds to import: mistakes above come first
    from cellpatch.inference.audit_files import FILES, ONLY_TEST, write_audit

    if options.outliers < 0:
        raise ValueError(f"--outliers must be 0 or more, but got {options.outliers}")
    check_output_folder(options.out, options.overwrite, FILES)
    results = selection_of(options).choose(read_results(*options.runs))
    found = audit(results, options.outliers, options.weights)
    write_audit(found, options.out)
    lines = [f"{options.out}: {len(found.rows)} cells audited"]
    lines += [f"  {reason}: {cells.sum()}" for reason, cells in found.reasons().items()]
    lines += [] if found.tested.group.folds else [ONLY_TEST]
    print(plain("\n".join([*lines, *found.warnings()])))


if __name__ == "__main__":
    main()
