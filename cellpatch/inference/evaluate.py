"""A finished run's scores on other labelled cells: an external cohort."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellpatch.config.assemble import assemble_stored
from cellpatch.data.cohort import ClassMap, CohortCells, map_cells
from cellpatch.data.dataset import find_store
from cellpatch.data.store.reader import CellStore, Geometry
from cellpatch.models.predictor import make_predict_fn
from cellpatch.optics.conditions import Condition
from cellpatch.optics.operator import OpticalPath
from cellpatch.runs.cohorts import Cohort
from cellpatch.runs.locks import lock_to_write, require_writable_run
from cellpatch.runs.restore import restore_network
from cellpatch.runs.scoring import score_cells
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.device import inference_batch_size, resolve_device

log = logging.getLogger(__name__)

_SAME_FIELD = 0.02  # relative difference of two fields that a rounding of pixels explains


@dataclass(frozen=True)
class CohortTask:
    """What runs are evaluated on: a cohort's name and store, its classes in theirs, conditions beside clean."""

    name: str
    store: CellStore
    class_map: ClassMap
    conditions: Sequence[Condition]


def evaluate_cohort(folder: Path, task: CohortTask, accelerator: str, weights_file: Path | None = None) -> StoredRun:
    """Evaluate a finished run on a cohort and add it to its record, in place of an earlier one of that name.

    Raises ValueError if the cohort is the run's own cells, its crops show another field, it has no class of the run, or
    the run cannot be restored; nothing is written then.
    """
    require_writable_run(folder)
    run = StoredRun.open(folder)
    record, store = run.record, task.store
    _check_cells(run, task)
    found = map_cells(store, record.classes, task.class_map)
    model, adaptation, optics = assemble_stored(record.settings, weights_file)
    geometry = store.geometry
    path = OpticalPath(geometry.crop_px, geometry.margin_px, model.input_px, optics.via_px, optics.resize)
    network = restore_network(run, model, adaptation, path)
    device = resolve_device(accelerator)
    predict = make_predict_fn(network, store, path, device, inference_batch_size(model.input_px, device))
    predicted = predict(task.conditions, found.cells)
    cells = store.rows(found.cells)
    metrics = score_cells(cells, found.labels, record.classes, path, predicted, record.temperature, None)
    equal, shared = _overlap(run, store, found)
    cohort = Cohort(
        name=task.name,
        fingerprint=store.manifest.fingerprint,
        synthetic=bool(store.manifest.source.get("synthetic", False)),
        file="",
        class_map=found.class_map,
        left_out=found.left_out,
        specimens=cells["specimen"].nunique(),
        metrics=metrics,
        equal_crops=equal,
        shared_specimens=shared,
    )
    with lock_to_write(folder.parent, record.identity):
        return StoredRun.open(folder).with_cohort(cohort, cells, found.labels, predicted)


def _check_cells(run: StoredRun, task: CohortTask) -> None:
    """Raise ValueError for cells that are no cohort of their own, or show another field."""
    record = run.record
    if task.store.manifest.fingerprint == record.data.fingerprint:
        raise ValueError("these are the cells that the run was trained and tested on: no external cohort")
    if task.name == record.settings.data.name:
        raise ValueError(f"data.name={task.name} is the name of the run's own cells: give the cohort another")
    theirs, ours = task.store.geometry, record.data.geometry
    if ours is not None and not _same_field(ours, theirs):
        raise ValueError(
            f"crops must show the same field as the run's, {ours.field_um:g} um, but the cohort's show "
            f"{theirs.field_um:g} um: set data.field_um={ours.field_um:g}, or check the scale of its images"
        )


def _same_field(ours: Geometry, theirs: Geometry) -> bool:
    if ours.field_um is None or theirs.field_um is None:
        log.warning("the scale of some crops is not stated: they are taken to show the same field")
        return True
    return abs(theirs.field_um / ours.field_um - 1) <= _SAME_FIELD


def _overlap(run: StoredRun, store: CellStore, found: CohortCells) -> tuple[int | None, list[str] | None]:
    """Cells whose crop is one of the study's, and specimens of the same name; None where the study is not here."""
    record = run.record
    study = find_store(Path(record.settings.data.loading.store_dir), record.data.fingerprint)
    if study is None:
        log.warning("the cells of %s are not on this machine: it is not checked whether the cohort has some", run.name)
        return None, None
    equal = int(np.isin(store.digests[found.cells], study.digests).sum())
    shared = sorted(set(store.specimens[found.cells].unique()) & set(study.specimens.unique()))
    if equal:
        log.warning("%d cells of the cohort have a crop that is in the run's own cells: scores are too high", equal)
    if shared:
        log.warning("specimens of the cohort and of the run's own cells have equal names: %s", ", ".join(shared[:8]))
    return equal, shared
