"""Print a grid of runs, verify them, or watch them: cellpatch runs RUNS [--csv FILE|--verify|--watch]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.cli import verify, watch
from cellpatch.cli.verify import name_paths
from cellpatch.metrics.validations import count_best_validations
from cellpatch.runs.folders import named_runs
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.table import TabledRun, table_of
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.spreadsheet import csv_text


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch runs", description="Print a grid of runs.")
    parser.add_argument(
        "runs", nargs="*", default=[Path("runs")], type=Path, help="folders of runs, runs, or packed runs"
    )
    parser.add_argument("--csv", type=Path, help="write the table there")
    parser.add_argument(
        "--verify", action="store_true", help="check every run's record, files, identity and metrics instead"
    )
    parser.add_argument("--watch", action="store_true", help="show what runs, was interrupted, failed or is done")
    options = parser.parse_args(arguments)
    if options.watch:
        if len(options.runs) != 1:
            parser.error(f"--watch takes one folder of runs, but got {' '.join(map(str, options.runs))}")
        watch.show(options.runs[0])
    elif options.verify:
        verify.print_problems(options.runs)
    else:
        try:
            _print(options.runs, options.csv)
        except ValueError as error:
            sys.exit(f"error: {error}")


def _print(paths: Sequence[Path], csv: Path | None) -> None:
    table = table_of(_runs_in(paths))
    if not table.empty:
        print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"{table['run'].nunique()} runs in {name_paths(paths)}")
    trainings = table.drop_duplicates("run").dropna(subset="updates")  # probes and runs before 0.4.0 count none
    if words := count_best_validations(trainings["best_validation"].tolist()):
        print(words)
    for file in sorted(file for path in paths for file in (path / ".failed").glob("[!.]*.log")):
        print(f"failed: {file.stem}: {file.read_text(encoding='utf-8').splitlines()[-1]}")
    if csv:
        with atomic_write(csv) as temporary:
            temporary.write_text(csv_text(table), encoding="utf-8")


def _runs_in(paths: Sequence[Path]) -> list[TabledRun]:
    """The runs in folders, and those in files that `cellpatch pack` wrote."""
    files = [path for path in paths if path.suffix == ".parquet" and path.is_file()]
    folders = [path for path in paths if path not in files]
    runs: list[TabledRun] = [StoredRun.open(folder) for folder in named_runs(folders)] if folders else []
    if files:
        from cellpatch.analysis.results import read_results  # takes a second, and few tables need it

        runs += read_results(*files)
    return runs


if __name__ == "__main__":
    main()
