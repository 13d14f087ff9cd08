"""Print a grid of runs, verify them, or watch them: cellpatch runs RUNS [--csv FILE|--verify|--watch]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.cli import verify, watch
from cellpatch.cli.each_run import exit_if_unreadable
from cellpatch.cli.verify import name_paths
from cellpatch.metrics.validations import count_best_validations
from cellpatch.runs.folders import named_runs
from cellpatch.runs.readable import Readable, open_each
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.table import TabledRun, table_of, with_test_cells
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
            problems = _print(options.runs, options.csv)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        exit_if_unreadable(problems)


def _print(paths: Sequence[Path], csv: Path | None) -> Sequence[str]:
    """Print, and write, the table of the runs that can be read; a line for each other run."""
    found = with_test_cells(_runs_in(paths))
    table = table_of(found.runs)
    if not table.empty:
        print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"{table['run'].nunique()} runs in {name_paths(paths)}")
    trainings = table.drop_duplicates("run").dropna(subset="updates")  # probes and runs before 0.4.0 count none
    if words := count_best_validations(trainings["best_validation"].tolist()):
        print(words)
    for file in sorted(file for path in paths for file in (path / ".failed").glob("[!.]*.log")):
        print(f"failed: {file.stem}: {(file.read_text(encoding='utf-8').splitlines() or [''])[-1]}")
    if csv:
        with atomic_write(csv) as temporary:
            temporary.write_text(csv_text(table), encoding="utf-8")
    if not found.runs and not found.problems:
        raise ValueError(f"{', '.join(map(str, paths))} has no finished run: train some first, e.g. make run")
    return found.problems


def _runs_in(paths: Sequence[Path]) -> Readable[TabledRun]:
    """The runs in folders, and those in files that `cellpatch pack` wrote."""
    files = [path for path in paths if path.suffix == ".parquet" and path.is_file()]
    folders = [path for path in paths if path not in files]
    found = open_each(named_runs(folders)) if folders else Readable[StoredRun]([], [])
    if not files:
        return Readable[TabledRun](found.runs, found.problems)
    from cellpatch.analysis.results import readable_results  # takes a second, and few tables need it

    packed = readable_results(*files)
    return Readable[TabledRun]([*found.runs, *packed.runs], [*found.problems, *packed.problems])


if __name__ == "__main__":
    main()
