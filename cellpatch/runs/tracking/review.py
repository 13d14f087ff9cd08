"""Tables and cells by which people review a run, as plain tables and pixels."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8
from PIL import Image

from cellpatch.data.dataset import CellDataset
from cellpatch.runs.cards import LatencyCard
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.record import Record
from cellpatch.runs.tracking.facts import BLURRED

_SHOWN_PX = 160  # at least: a cell of 40 px is a stamp on a screen
_SHOWN_ERRORS = 64  # of all classes together, but at least one of each


@dataclass(frozen=True)
class ShownCell:
    """A test cell, enlarged, and what it was taken for."""

    pixels: UInt8[np.ndarray, "side side 3"]
    caption: str


def condition_table(record: Record) -> pd.DataFrame:
    """A row for clean cells and each blur: kind, sigma, scores. Other faults are numbers of their own."""
    rows = [row for row in record.metrics if not row.condition.is_fault]
    return pd.DataFrame([asdict(row.condition) | {name: getattr(row.scores, name) for name in BLURRED} for row in rows])


def per_class_table(record: Record) -> pd.DataFrame:
    """A row for each class: training and test cells, precision, recall, F1 on clean cells."""
    counts = record.counts["train"]
    return pd.DataFrame(
        [{"class": name, "n_train": counts[name]} | asdict(row) for name, row in record.clean.per_class.items()]
    )


def confusion_table(record: Record) -> pd.DataFrame:
    """The confusion matrix: a row for each true class, a column for each predicted one."""
    table = pd.DataFrame(record.clean.confusion, columns=record.classes)
    table.insert(0, "true \\ predicted", record.classes)
    return table


def latency_table(card: LatencyCard) -> pd.DataFrame:
    """A row for each engine and batch: milliseconds per cell, quartiles, memory."""
    rows = [{"engine": engine} | asdict(row) for engine, timings in card.engines.items() for row in timings]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def show_cells(predicted: Predictions, dataset: CellDataset, classes: list[str]) -> dict[str, list[ShownCell]]:
    """The errors of highest confidence of each class (`wrong`), and a correct cell of each class (`correct`)."""
    labels, taken = predicted.labels, predicted.probabilities.argmax(axis=1)
    confidence = predicted.probabilities.max(axis=1)
    each = max(1, _SHOWN_ERRORS // len(classes))
    by_confidence = np.argsort(-confidence, kind="stable")
    wrong = [by_confidence[((labels == code) & (taken != code))[by_confidence]][:each] for code in range(len(classes))]
    correct = [np.flatnonzero((labels == code) & (taken == code))[:1] for code in range(len(classes))]

    ids = predicted.rows["cell_id"].to_numpy()

    def caption(i: int) -> str:
        error = "" if labels[i] == taken[i] else f" taken for {classes[taken[i]]}"
        return f"{classes[labels[i]]}{error} ({confidence[i]:.2f}), {ids[i]}"

    def shown(cells: Int[np.ndarray, " n"]) -> list[ShownCell]:
        return [
            ShownCell(pixels, caption(i)) for pixels, i in zip(_enlarged(dataset, cells), cells.tolist(), strict=True)
        ]

    return {"wrong": shown(np.concatenate(wrong)), "correct": shown(np.concatenate(correct))}


def _enlarged(dataset: CellDataset, cells: Int[np.ndarray, " n"]) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Crops of test cells without their margin, by a whole factor that brings them to a readable side."""
    margin, side = dataset.store.geometry.margin_px, dataset.store.geometry.side_px
    crops = dataset.store.crops(dataset.split.test[cells])[:, margin : side - margin, margin : side - margin]
    shown_px = crops.shape[1] * max(1, -(-_SHOWN_PX // crops.shape[1]))
    return [np.asarray(Image.fromarray(crop).resize((shown_px, shown_px), Image.Resampling.BICUBIC)) for crop in crops]
