"""The cells of a run: an open store, its classes, its split."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cellpatch.data.loading import Loading
from cellpatch.data.sources.source import Source, prepare_store, store_path
from cellpatch.data.splitter import LabelledCells, Split, SplitAudit, Splitter
from cellpatch.data.store.reader import CellStore, read_manifest
from cellpatch.metrics.classification import Costs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSpec:
    """Cells before they are read: a name for people, the source, and how they are split, loaded and weighed."""

    name: str
    source: Source
    split: Splitter
    loading: Loading
    costs: Costs

    @property
    def store_dir(self) -> Path:
        return Path(self.loading.store_dir)


@dataclass(frozen=True)
class CellDataset:
    """The classes that are studied, each cell's index among them (-1 where its class is dropped), and the split."""

    store: CellStore
    classes: list[str]
    labels: Int[np.ndarray, " n"]
    split: Split

    @property
    def test_labels(self) -> Int[np.ndarray, " n"]:
        return self.labels[self.split.test]


def open_store(data: DataSpec) -> CellStore:
    """The store of these cells, prepared if it is absent."""
    store = _open(prepare_store(data.source, data.name, data.store_dir))
    _report(store)
    return store


@lru_cache(maxsize=1)  # once for all jobs of a grid
def _report(store: CellStore) -> None:
    """Report what was left out, joined or is doubtful, so that nobody has to open the manifest for it."""
    log.info("%s: %d cells of %d classes", store.root.name, len(store), len(store.manifest.classes))
    for sentence in store.manifest.intake.sentences():
        log.warning("%s", sentence)


def find_prepared(data: DataSpec) -> CellStore | None:
    """The store of these cells if it is prepared, else None."""
    root = store_path(data.source, data.name, data.store_dir)
    return _open(root) if root.exists() else None


@lru_cache(maxsize=1)  # opening checks gigabytes by checksum, and every job of a grid opens the same store
def _open(root: Path) -> CellStore:
    return CellStore(root)


def find_store(store_dir: Path, fingerprint: str) -> CellStore | None:
    """The store in a folder that holds the cells of a fingerprint; prepares nothing."""
    for file in sorted(store_dir.glob("[!.]*/manifest.json")):
        try:
            present = read_manifest(file.parent).fingerprint
        except ValueError as error:
            log.warning("skipped %s: %s", file.parent.name, error)
            continue
        if present == fingerprint:
            return CellStore(file.parent)
    return None


def labelled_cells(store: CellStore, splitter: Splitter) -> tuple[list[str], LabelledCells]:
    """The classes that are studied, and a store's cells as a splitter takes them."""
    classes = splitter.keep(store.manifest.classes)
    labels = store.labels
    if classes != store.manifest.classes:
        labels = np.array([classes.index(name) if name in classes else -1 for name in store.manifest.classes])[labels]
    columns = ("split", "site", "near_group")
    predefined, sites, groups = (store.column(name) if store.has_values(name) else None for name in columns)
    cells = LabelledCells(
        labels,
        store.specimens,
        store.digests,
        None if predefined is None else predefined.to_pandas().to_numpy(),
        None if sites is None else sites.to_pandas().to_numpy(),
        None if groups is None else groups.fill_null(-1).to_numpy().astype(np.int64),
    )
    return classes, cells


def open_dataset(store: CellStore, splitter: Splitter, flag_limit: int, seed: int) -> CellDataset:
    """Split a store's cells; `seed` draws which of them a flag_limit takes."""
    classes, cells = labelled_cells(store, splitter)
    split = splitter.split(cells, classes, flag_limit, seed)
    _report_near_copies(split.audit, store.root / "cells.parquet")
    return CellDataset(store, classes, cells.labels, split)


def _report_near_copies(audit: SplitAudit, cells: Path) -> None:
    """Log the near copies of test crops in training and validation, or what was left out for them."""
    near, left_out = audit.near_copies_of_test_crops, audit.left_out_as_near_copies
    if near:
        log.warning(
            "%d training and %d validation cells share a near_group with a test cell: if they show the same cell, "
            "scores are too high. Look at them (docs/data.md; column near_group of %s). To leave them out, set "
            "data.split.near_copies=drop_cells, or drop_specimens for all cells of their specimens",
            near["train"],
            near["validation"],
            cells,
        )
    if left_out:
        train, validation = left_out["train"], left_out["validation"]
        log.info(
            "left out for near copies of test cells: %d training cells of %d specimens, %d validation cells of %d",
            train.cells,
            train.specimens,
            validation.cells,
            validation.specimens,
        )
