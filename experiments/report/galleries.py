"""Cells on the page of the report: some of each class, and the worst errors of the best run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cellpatch.analysis.curves import leader, learning_curves
from cellpatch.analysis.groups import SeedGroup, at_one_limit
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.run_result import RunResult
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.gallery import pick_across_specimens, png_base64
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.stored_run import StoredRun, require_store

WORST, EACH = 24, 6  # cells shown: the surest errors, and of each class
_PACKED = "Packed runs contain no cells. Make the report from the runs directory on a machine that has the crops."


@dataclass(frozen=True)
class CellView:
    """A crop on the page: base64 of its PNG file, and what it is."""

    png: str
    words: str


@dataclass(frozen=True)
class Gallery:
    """Cells beside each other."""

    caption: str
    cells: list[CellView]


def galleries_of(groups: Sequence[SeedGroup]) -> tuple[list[Gallery], str]:
    """Cells of each class and the surest errors of the best run, or why they cannot be shown."""
    at_limit = at_one_limit(groups)
    best, _ = leader(by_label(learning_curves(groups), groups), at_limit[0].coordinates.flag_limit)
    run = by_label(at_limit, groups)[best].trainings[0]
    if run.folder is None:
        return [], _PACKED
    try:
        store = require_store(run.record)
    except ValueError as error:
        return [], f"The crops are not on this machine, so no cell is shown: {error}."
    predictions = StoredRun.open(run.folder).predictions[CLEAN]
    return [*_classes(store, predictions, run), _worst_errors(store, predictions, run)], ""


def _classes(store: CellStore, predictions: Predictions, run: RunResult) -> Iterator[Gallery]:
    """Test cells of each class that has any."""
    for code, name in enumerate(run.record.classes):
        of_class = np.flatnonzero(predictions.labels == code)
        shown = of_class[pick_across_specimens(predictions.rows["specimen"].iloc[of_class], EACH)]
        if len(shown):
            n = f"{len(shown)} of {len(of_class)} test cells"
            caption = f"{name}: {n}, drawn at random, of different specimens first."
            yield Gallery(caption, _cells(store, predictions, shown, [name] * len(shown)))


def _worst_errors(store: CellStore, predictions: Predictions, run: RunResult) -> Gallery:
    """The wrong predictions with the highest probability."""
    classes, labels = run.record.classes, predictions.labels
    predicted, confidence = predictions.probabilities.argmax(axis=1), predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
    words = [f"{classes[labels[i]]} predicted as {classes[predicted[i]]}, {100 * confidence[i]:.0f} %" for i in worst]
    caption = f"Worst errors of {run.run}, most confident first: {len(worst)} of {len(wrong)}."
    return Gallery(caption, _cells(store, predictions, worst, words))


def _cells(
    store: CellStore, predictions: Predictions, shown: Int[np.ndarray, " shown"], words: Sequence[str]
) -> list[CellView]:
    """The predicted cells at these positions, without the margin of their crops."""
    row_of = {name: row for row, name in enumerate(store.cells["cell_id"])}
    rows = np.array([row_of[name] for name in predictions.rows["cell_id"].to_numpy()[shown]], int)
    margin, side = store.geometry.margin_px, store.geometry.crop_px
    crops = store.crops(rows)[:, margin : margin + side, margin : margin + side]
    return [CellView(png_base64(crop), text) for crop, text in zip(crops, words, strict=True)]
