"""Read the runs that figures and tables are of."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from cellpatch.analysis.compact import SparseConfusions, StoredMetrics, compress
from cellpatch.analysis.packed_results import unpack
from cellpatch.analysis.run_result import CohortResult, RunResult
from cellpatch.metrics.scores import confusions_by_specimen
from cellpatch.optics.conditions import Condition
from cellpatch.runs.folders import require_runs
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.readable import Readable, read_each
from cellpatch.runs.stored_run import StoredRun


def read_results(*paths: Path) -> list[RunResult]:
    """The runs that `paths` name: runs, folders of runs, and files that `cellpatch pack` wrote.

    Among several paths what is none of these is skipped. Raises ValueError if there are no runs, and one that lists
    every run that cannot be read: numbers of a study must not depend on which of its runs are damaged.
    """
    results = list(readable_results(*paths).all_runs())
    if not results:
        raise ValueError(f"{', '.join(map(str, paths))} has no finished run: train some first, e.g. make run")
    return results


def readable_results(*paths: Path) -> Readable[RunResult]:
    """As `read_results`, with a line for each run that cannot be read in place of an error."""
    packed = [path for path in paths if not path.is_dir() and (len(paths) == 1 or path.suffix == ".parquet")]
    results, problems = list[RunResult](), list[str]()
    for file in packed:
        found = unpack(file)
        results += found.runs
        problems += found.problems
    others = [path for path in paths if path not in packed]
    if others:
        with ThreadPoolExecutor() as threads:
            each = list(threads.map(lambda folder: read_each([folder], _read_run), require_runs(others)))
        results += [run for found in each for run in found.runs]
        problems += [problem for found in each for problem in found.problems]
    return Readable(results, problems)


def _read_run(folder: Path) -> RunResult:
    run = StoredRun.open(folder)
    n_classes = len(run.record.classes)
    specimens, confusions = _count(run.predictions, n_classes)
    cohorts = {name: CohortResult(*_count(found, n_classes)) for name, found in run.cohort_predictions.items()}
    turned = _count(run.turned_predictions, n_classes)[1]
    compressed = compress(run.stored)
    record = replace(run.record, metrics=StoredMetrics(compressed))
    return RunResult(run.name, record, specimens, confusions, compressed, folder, cohorts=cohorts, turned=turned)


def _count(predictions: Mapping[Condition, Predictions], n_classes: int) -> tuple[tuple[str, ...], SparseConfusions]:
    """The sorted names of the specimens, and their confusion matrices by condition."""
    confusions, names = {}, list[str]()
    for condition, (rows, labels, probabilities) in predictions.items():
        names = sorted(rows["specimen"].unique())
        predicted = probabilities.argmax(axis=1)
        confusions[condition] = confusions_by_specimen(labels, predicted, rows["specimen"], n_classes)
    return tuple(names), SparseConfusions(confusions)
