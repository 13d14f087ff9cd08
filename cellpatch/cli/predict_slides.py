"""Several sources in one command, a job each, by the launchers that trainings use: part of cellpatch predict.

The jobs lie as JSON in the output folder, where the processes and machines that do them find them.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.schema import CONF
from cellpatch.inference.jobs import (
    REPORTS,
    SUMMARY,
    PredictionJob,
    PredictionReport,
    do_job_once,
    read_report,
    summary_table,
)
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.memory import tune_malloc
from cellpatch.runtime.parallel import available_workers
from cellpatch.runtime.plain_text import plain
from cellpatch.runtime.spreadsheet import csv_text

log = logging.getLogger(__name__)


def predict_slides(jobs: Sequence[PredictionJob], folder: Path, launcher: str, settings: Sequence[str]) -> bool:
    """Do the jobs, print and write a summary; whether all succeeded. Raises OSError if `folder` cannot be written.

    `settings` are KEY=VALUE of conf/hydra/launcher/`launcher`.yaml.
    """
    reports = folder / REPORTS
    reports.mkdir(parents=True, exist_ok=True)
    file = reports / f"jobs-{uuid4().hex}.json"
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")
    paths = prepare_overrides([f"jobs={_escaped(file)}", f"hydra.sweep.dir={_escaped(reports)}"])
    settings = [f"hydra.launcher.{setting}" for setting in settings]
    sys.argv[1:] = ["-m", *paths, f"hydra/launcher={launcher}", *settings, f"job=range(0,{len(jobs)})"]
    try:
        _main()
        file.unlink(missing_ok=True)
    except SystemExit as error:  # Hydra's, after it printed why, such as a worker that died; jobs may still be running
        log.error("the launcher ended before its jobs did (status %s)", error.code)
    finally:  # of a Ctrl-C too
        results = [_report_of(job, file.name) for job in jobs]
        _show(jobs, results, folder / SUMMARY)
    return not any(report.state in ("failed", "interrupted") for report in results)


def _escaped(path: Path) -> str:
    """A path as OmegaConf takes it: `${` in it is not an interpolation."""
    return str(path).replace("${", "\\${")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="predict")
def _main(config: DictConfig) -> None:
    """One job; its report is a file, since jobs end on other machines. Jobs beside each other share the cores."""
    tune_malloc()
    file = Path(config.jobs)
    job = PredictionJob(**json.loads(file.read_text(encoding="utf-8"))[config.job])
    at_once = max(1, HydraConfig.get().launcher.get("n_jobs") or 1)  # joblib's
    if at_once > 1:
        cores = max(1, available_workers() // at_once)
        torch.set_num_threads(cores)
        job = replace(job, workers=cores)
    log.info("%s: %s", Path(job.source).name, do_job_once(job, file.name).state)


def _report_of(job: PredictionJob, command: str) -> PredictionReport:
    """What this command did with a job; interrupted if the job has no report of it."""
    report = read_report(job)
    if report is None or report.command != command:
        return PredictionReport("interrupted", messages=["the same command resumes it"])
    return report


def _show(jobs: Sequence[PredictionJob], reports: Sequence[PredictionReport], file: Path) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(csv_text(summary_table(jobs, reports)), encoding="utf-8")
    for job, report in zip(jobs, reports, strict=True):
        print(plain("\n".join(report.lines(job.out))))
    counts = Counter(report.state for report in reports)
    print(f"{len(jobs)} sources: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}; {file}")
