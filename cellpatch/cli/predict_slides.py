"""Several sources in one command, a job each, by the launchers that trainings use: part of python -m cellpatch.predict.

The jobs lie as JSON in the output folder, where the processes and machines that do them find them.
"""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import hydra
from omegaconf import DictConfig

from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.schema import CONF
from cellpatch.inference.jobs import REPORTS, PredictionJob, PredictionReport, do_job_once, read_report, summary_table
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.memory import tune_malloc

log = logging.getLogger(__name__)


def predict_slides(jobs: Sequence[PredictionJob], folder: Path, launcher: str, settings: Sequence[str]) -> None:
    """Do the jobs, print and write a summary; ends the command with status 1 if one failed.

    `settings` are KEY=VALUE of conf/hydra/launcher/`launcher`.yaml.
    """
    reports = folder / REPORTS
    reports.mkdir(parents=True, exist_ok=True)
    file = reports / f"jobs-{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")
    overrides = [f"jobs={file}", f"hydra.sweep.dir={reports}", f"hydra/launcher={launcher}"]
    overrides += [f"hydra.launcher.{setting}" for setting in settings]
    sys.argv[1:] = ["-m", *prepare_overrides(overrides), f"job=range(0,{len(jobs)})"]
    try:
        _main()
    except SystemExit as error:  # Hydra's, after it printed why: a setting that the launcher lacks, a worker that died
        log.error("the launcher ended before its jobs did (status %s)", error.code)
    results = [_report_of(job, file.name) for job in jobs]
    file.unlink()
    _show(jobs, results, folder / "summary.csv")
    if any(report.state in ("failed", "interrupted") for report in results):
        sys.exit(1)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="predict")
def _main(config: DictConfig) -> None:
    """One job; its report is a file, since jobs end on other machines."""
    tune_malloc()
    file = Path(config.jobs)
    job = PredictionJob(**json.loads(file.read_text(encoding="utf-8"))[config.job])
    log.info("%s: %s", Path(job.source).name, do_job_once(job, file.name).state)


def _report_of(job: PredictionJob, command: str) -> PredictionReport:
    """What this command did with a job; interrupted if the job has no report of it."""
    report = read_report(job)
    if report is None or report.command != command:
        return PredictionReport("interrupted", messages=["the same command goes on where it was"])
    return report


def _show(jobs: Sequence[PredictionJob], reports: Sequence[PredictionReport], file: Path) -> None:
    with atomic_write(file) as temporary:
        summary_table(jobs, reports).to_csv(temporary, index=False)
    for job, report in zip(jobs, reports, strict=True):
        print("\n".join(report.lines(job.out)))
    counts = Counter(report.state for report in reports)
    print(f"{len(jobs)} sources: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}; {file}")
