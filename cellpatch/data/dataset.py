"""The cells of a study: an open store, its classes, its split."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cellpatch.config.instantiate import build, without
from cellpatch.data.sources.source import Source, prepare_store, store_path
from cellpatch.data.splits import BySpecimen, Split
from cellpatch.data.store.reader import CellStore, read_manifest
from cellpatch.runtime.cache import Last

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellDataset:
    """The classes of a study, each cell's index among them (-1 where dropped), and the split."""

    store: CellStore
    classes: list[str]
    labels: Int[np.ndarray, " n"]
    split: Split

    @property
    def test_labels(self) -> Int[np.ndarray, " n"]:
        return self.labels[self.split.test]


def open_store(data: dict[str, Any]) -> CellStore:
    """The store of a data config, prepared if it is absent; opened once in a process."""
    return _open(prepare_store(_source(data), data["name"], Path(data["loading"]["store_dir"])))


def find_prepared(data: dict[str, Any]) -> CellStore | None:
    """The store of a data config if it is prepared, else None."""
    root = store_path(_source(data), data["name"], Path(data["loading"]["store_dir"]))
    return _open(root) if root.exists() else None


def _source(data: dict[str, Any]) -> Source:
    return build(without(data, "name", "split", "loading", "costs"))


def _open(root: Path) -> CellStore:
    return _opened.get(root, lambda: CellStore(root))


_opened = Last[CellStore]()


def find_store(record: Mapping[str, Any]) -> CellStore | None:
    """The store that holds the cells of a run, if it is where the run had it; prepares nothing."""
    store_dir = Path(record["config"]["data"]["loading"]["store_dir"])
    for file in sorted(store_dir.glob("[!.]*/manifest.json")):
        try:
            found = read_manifest(file.parent).fingerprint
        except ValueError as error:
            log.warning("%s is passed over: %s", file.parent.name, error)
            continue
        if found == record["data"]["fingerprint"]:
            return CellStore(file.parent)
    return None


def need_store(record: Mapping[str, Any]) -> CellStore:
    """As `find_store`; raises ValueError if it is not there."""
    store = find_store(record)
    if store is None:
        store_dir = record["config"]["data"]["loading"]["store_dir"]
        run = record["run"]
        raise ValueError(f"{run}: no store in {store_dir} holds its cells: the command that trained it prepares one")
    return store


def open_dataset(plain: dict[str, Any], store: CellStore) -> CellDataset:
    """Split the store's cells as the config says."""
    by_specimen: BySpecimen = build(plain["data"]["split"])
    classes = by_specimen.keep(store.manifest.classes)
    code = {name: i for i, name in enumerate(classes)}
    labels = np.array([code.get(name, -1) for name in store.cells["class"].astype(str)])
    given = store.cells["split"]
    split = by_specimen.split(
        labels,
        store.cells["specimen"].astype(str).to_numpy(),
        store.cells["digest"].to_numpy(dtype="S16"),
        classes,
        plain["flag_limit"],
        None if given.isna().all() else given.to_numpy(),
        plain["seed"],
    )
    return CellDataset(store, classes, labels, split)
