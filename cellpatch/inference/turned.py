"""Test-time augmentation: the test cells of a finished run predicted again, eight times each."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cellpatch.config.assemble import assemble_stored
from cellpatch.data.store.reader import CellStore
from cellpatch.models.network import Network
from cellpatch.optics.conditions import CLEAN, Condition, OpticsSettings
from cellpatch.optics.operator import OpticalPath, to_pixels
from cellpatch.runs.locks import lock_to_write, require_writable_run
from cellpatch.runs.restore import restore_network
from cellpatch.runs.scoring import score_cells
from cellpatch.runs.stored_run import StoredRun, require_store
from cellpatch.runs.turned import TurnedScores
from cellpatch.runtime.device import inference_batch_size, inference_mode, resolve_device
from cellpatch.runtime.progress import batch_starts

log = logging.getLogger(__name__)

VIEWS = 8  # flips and quarter turns of a square


def turned_views(x: Float[Tensor, "b 3 side side"]) -> list[Float[Tensor, "b 3 side side"]]:
    """Each image in its eight flips and quarter turns, the first as it is."""
    return [torch.rot90(each, turns, (2, 3)) for each in (x, x.flip(3)) for turns in range(4)]


def evaluate_turned(
    folder: Path, asked: OpticsSettings, accelerator: str, weights_file: Path | None = None
) -> StoredRun:
    """Predict a run's test cells eight times each, clean and as `asked`, and add the scores to its record.

    Only conditions that it lacks are predicted. Raises ValueError for one that the run was not evaluated under, if the
    cells are not on this machine or the run cannot be restored; nothing is written then.
    """
    require_writable_run(folder)
    run = StoredRun.open(folder)
    store = require_store(run.record)
    rows, labels, _ = run.predictions[CLEAN]
    conditions = asked.evaluated(store.geometry.field_um)
    if unknown := [str(condition) for condition in conditions if condition not in run.predictions]:
        raise ValueError(f"the run was not evaluated under {', '.join(unknown)}: train it with optics of these first")
    stored = {condition: found.probabilities for condition, found in run.turned_predictions.items()}
    missing = [condition for condition in conditions if condition not in stored]
    if not missing:
        log.info("%s has test-time augmentation under these conditions", run.name)
        return run
    row_of = {name: i for i, name in enumerate(store.cells["cell_id"])}
    chosen = np.array([row_of[name] for name in rows["cell_id"]])
    model, adaptation, optics = assemble_stored(run.record.settings, weights_file)
    geometry = store.geometry
    path = OpticalPath(geometry.crop_px, geometry.margin_px, model.input_px, optics.via_px, optics.resize)
    network = restore_network(run, model, adaptation, path)
    device = resolve_device(accelerator)
    started = time.perf_counter()
    batch = inference_batch_size(model.input_px, device)
    predicted = _predict(network.to(device).eval(), store, path, missing, chosen, batch)
    seconds = time.perf_counter() - started
    by_condition = stored | predicted
    cells = store.cells.iloc[chosen]
    metrics = score_cells(cells, labels, run.record.classes, path, by_condition, run.record.temperature, None)
    before = 0.0 if run.record.turned is None else run.record.turned.seconds
    turned = TurnedScores(file="", views=VIEWS, seconds=before + seconds, metrics=metrics)
    with lock_to_write(folder.parent, run.record.identity):
        return StoredRun.open(folder).with_turned(turned, cells, labels, by_condition)


@inference_mode()
def _predict(
    network: Network,
    store: CellStore,
    path: OpticalPath,
    conditions: Sequence[Condition],
    cells: Int[np.ndarray, " n"],
    batch_size: int,
) -> dict[Condition, Float[np.ndarray, "n classes"]]:
    """Mean probabilities over the views of what the network sees of a cell: a turned camera, not turned optics."""
    device = next(network.parameters()).device
    optics = [path.under(condition).to(device) for condition in conditions]
    parts: list[list[np.ndarray]] = [[] for _ in conditions]
    for start in batch_starts(len(cells), batch_size, "turning"):
        pixels = to_pixels(torch.from_numpy(store.crops(cells[start : start + batch_size])).to(device))
        for part, seen in zip(parts, optics, strict=True):
            views = [network.classify_input(view).softmax(dim=1) for view in turned_views(seen(pixels))]
            part.append(torch.stack(views).mean(dim=0).cpu().numpy())
    return dict(zip(conditions, map(np.concatenate, parts), strict=True))
