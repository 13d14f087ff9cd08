"""A run in Weights & Biases: one W&B run for one run of ours, whatever came to it later."""

import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import wandb
from jaxtyping import UInt8
from PIL import Image

from cellpatch.data.dataset import CellDataset
from cellpatch.runs.folders import RECORD
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking.about import About
from cellpatch.runs.tracking.confusion_chart import draw_confusion
from cellpatch.runs.tracking.facts import BLURRED, curve_row, hyperparameters, numbers
from cellpatch.runs.tracking.review import (
    condition_table,
    confusion_table,
    latency_table,
    per_class_table,
    show_cells,
)
from cellpatch.runs.tracking.settings import Wandb

_list_packages = wandb.util.working_set
wandb.util.working_set = cache(lambda: list(_list_packages()))  # W&B takes 0.3 s for it at the start of each run

_BEST: dict[str, Literal["max", "min"]] = {"val_macro_f1": "max", "val_accuracy": "max", "val_loss": "min"}


class WandbTracker:
    """A W&B run whose id is our identity: online a resumed run is continued, offline `wandb sync` joins its files.

    Charts have `update` as their x axis, scores of test cells `flag_limit`. What is shown once (scores of blurred
    cells, slopes, costs, tables) goes into the summary.
    """

    def __init__(self, settings: Wandb, about: About) -> None:
        self._artifacts_bytes, self._anew = settings.artifacts_mib * 2**20, about.anew
        self._run: Any = wandb.init(
            project=settings.project,
            entity=settings.entity,
            id=about.identity,
            name=about.run,
            group=settings.group or about.group,
            job_type="probe" if about.settings.is_probe else "training",
            tags=about.tags,
            dir=str(about.folder),
            mode="offline" if settings.offline else None,
            resume=None if settings.offline else "allow",
            config=dict(about.settings.config),
            reinit="finish_previous",  # else a run that a failure left open would get this one's rows
            settings=wandb.Settings(silent=True),
        )
        self._logged_until = self._run.summary.get("update", 0) if self._run.resumed else 0
        self._curves: set[str] = set()
        for axis in ("update", "flag_limit"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("test/*", step_metric="flag_limit")

    def log_round(self, row: Mapping[str, float]) -> None:
        curve = curve_row(row)
        for name in sorted(curve.keys() - self._curves):  # one by one: of two patterns that fit, W&B takes either
            self._run.define_metric(name, step_metric="update", summary=_BEST.get(name))
        self._curves |= curve.keys()
        if row["update"] > self._logged_until:  # W&B has the others, from before an interruption
            self._run.log({**curve, "update": row["update"]})

    def finish(self, run: StoredRun, dataset: CellDataset | None) -> None:
        _make_media_folder()
        record = run.record
        self._run.config.update(hyperparameters(record), allow_val_change=True)
        found = numbers(record)
        if self._anew:
            charted = {f"test/{name}": found[f"test/{name}"] for name in BLURRED}
            self._run.log({"flag_limit": record.settings.flag_limit, **charted})
        self._run.summary.update(found)
        tables = {"tables/blur": condition_table(record), "tables/per_class": per_class_table(record)}
        tables["tables/confusion"] = confusion_table(record)
        if record.latency is not None:
            tables["tables/latency"] = latency_table(record.latency)
        self._run.summary.update({name: wandb.Table(dataframe=table) for name, table in tables.items()})
        if self._anew:
            self._log_images(run, dataset)
            self._log_artifact(run)

    def _log_images(self, run: StoredRun, dataset: CellDataset | None) -> None:
        self._run.log({"confusion": _image(draw_confusion(run.record))})
        if dataset is not None:
            shown = show_cells(run.clean_predictions, dataset, run.record.classes)
            images = {
                f"cells/{name}": [_image(cell.pixels, cell.caption) for cell in cells] for name, cells in shown.items()
            }
            self._run.log(images)

    def _log_artifact(self, run: StoredRun) -> None:
        files = [run.folder / RECORD, *(run.folder / name for name in run.record.files)]
        if sum(file.stat().st_size for file in files) <= self._artifacts_bytes:
            artifact = wandb.Artifact(f"run-{run.record.identity}", "run", metadata={"run": run.name})
            for file in files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _image(pixels: UInt8[np.ndarray, "height width 3"], caption: str | None = None) -> wandb.Image:
    """An image as PNG, compressed in a quarter of the time to files that are 3 % larger: a run shows 60 cells."""
    image = Image.fromarray(pixels)
    image.encoderinfo = {"compress_level": 1, "compress_type": zlib.Z_RLE}
    return wandb.Image(image, caption=caption)


def _make_media_folder() -> None:
    """W&B keeps media in the system's temporary folder until the process ends: something may have cleaned it since."""
    from wandb.sdk.data_types._private import MEDIA_TMP

    Path(MEDIA_TMP.name).mkdir(parents=True, exist_ok=True)
