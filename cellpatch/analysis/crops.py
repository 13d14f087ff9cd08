"""The crops that a run was trained and tested on, where they still are on this machine."""

import logging
from pathlib import Path

from cellpatch.data.store.reader import CellStore, read_manifest
from cellpatch.runs.record import Record

log = logging.getLogger(__name__)


def store_of_run(record: Record) -> CellStore:
    """The store with the cells of a run, in the run's store folder; prepares none.

    Raises ValueError if no store in that folder holds these cells.
    """
    folder = Path(record.settings.data.loading.store_dir)
    for file in sorted(folder.glob("[!.]*/manifest.json")):
        try:
            fingerprint = read_manifest(file.parent).fingerprint
        except ValueError as error:
            log.warning("%s is passed over: %s", file.parent.name, error)
            continue
        if fingerprint == record.data.fingerprint:
            return CellStore(file.parent)
    raise ValueError(f"{record.run}: no store in {folder} holds its cells: the command that trained it prepares one")
