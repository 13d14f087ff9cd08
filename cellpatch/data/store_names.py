"""Stores of the same cells under several names."""

import logging
from pathlib import Path

from cellpatch.data.dataset import DataSpec
from cellpatch.data.sources.source import store_path

log = logging.getLogger(__name__)


def _other_names(own: Path) -> list[str]:
    """The names under which stores of the same source, settings and files exist, beside this store."""
    digest = own.name.rpartition("-")[2]
    stores = sorted(own.parent.glob(f"[!.]*-{digest}/manifest.json"))
    return [file.parent.name.removesuffix(f"-{digest}") for file in stores if file.parent != own]


def report_other_names(data: DataSpec) -> None:
    """Warn, before a second store of the same cells is prepared, what another data.name changes."""
    own = store_path(data.source, data.name, data.store_dir)
    for name in [] if own.exists() else _other_names(own):
        log.warning(
            "%s holds the same cells as data.name=%s: data.name=%s prepares a second copy, and figures and tables show "
            "runs of the two names as two data sets. Runs that exist keep their name. data.name=%s goes on with them",
            data.store_dir,
            name,
            data.name,
            name,
        )
