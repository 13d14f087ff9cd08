"""Print a grid of runs, verify them, or watch them: cellpatch runs RUNS [--csv FILE|--verify|--watch]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cellpatch.metrics.validations import count_best_validations
from cellpatch.runs.table import runs_table
from cellpatch.runtime.atomic_io import atomic_write


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch runs", description="Print a grid of runs.")
    parser.add_argument("runs", nargs="*", default=[Path("runs")], type=Path, help="folders of runs, or runs")
    parser.add_argument("--csv", type=Path, help="write the table there")
    parser.add_argument(
        "--verify", action="store_true", help="check every run's record, files, identity and metrics instead"
    )
    parser.add_argument("--watch", action="store_true", help="show what runs, was interrupted, failed or is done")
    options = parser.parse_args(arguments)
    try:
        if options.watch:
            if len(options.runs) != 1:
                parser.error(f"--watch takes one folder of runs, but got {' '.join(map(str, options.runs))}")
            _watch(options.runs[0])
        elif options.verify:
            sys.exit(1 if _verify(options.runs) else 0)
        else:
            _print(options.runs, options.csv)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        return


def watch_main(arguments: list[str] | None = None) -> None:
    """`cellpatch watch [RUNS]`: the same as `cellpatch runs RUNS --watch`."""
    _with_flag("--watch", "watch", "Show what runs, was interrupted, failed or is done, until Ctrl-C.", arguments)


def verify_main(arguments: list[str] | None = None) -> None:
    """`cellpatch verify [RUNS]`: the same as `cellpatch runs RUNS --verify`."""
    text = "Check every run's record, files, identity and metrics; ends with status 1 if there is a problem."
    _with_flag("--verify", "verify", text, arguments)


def _with_flag(flag: str, verb: str, description: str, arguments: list[str] | None) -> None:
    parser = argparse.ArgumentParser(prog=f"cellpatch {verb}", description=description)
    parser.add_argument("runs_dir", metavar="RUNS", nargs="?", default="runs", help="a folder of runs")
    main([parser.parse_args(arguments).runs_dir, flag])


def _watch(runs_dir: Path) -> None:
    from cellpatch.sweeps.status import watch  # Hydra takes a second to import

    watch(runs_dir, Console())


def _verify(paths: Sequence[Path]) -> int:
    from cellpatch.runs.verify import run_folders, verify  # SciPy takes half a second to import

    problems = verify(*paths)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print("\n".join([*problems, f"{len(run_folders(*paths))} runs in {_named(paths)}, {count} found"]))
    return len(problems)


def _print(paths: Sequence[Path], csv: Path | None) -> None:
    table = runs_table(*paths)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"{table['run'].nunique()} runs in {_named(paths)}")
    trainings = table.drop_duplicates("run").dropna(subset="updates")  # probes and runs before 0.4.0 count none
    if words := count_best_validations(trainings["best_validation"].tolist()):
        print(words)
    for file in sorted(file for path in paths for file in (path / ".failed").glob("[!.]*.log")):
        print(f"failed: {file.stem}: {file.read_text(encoding='utf-8').splitlines()[-1]}")
    if csv:
        with atomic_write(csv) as temporary:
            table.to_csv(temporary, index=False)


def _named(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{len(paths)} paths"


if __name__ == "__main__":
    main()
