"""Pretrained backbones on disk: a folder NAME-DIGEST each, with weights.safetensors and entry.json.

One pretraining serves all flag_limits of a seed, other recipes of training after it, and runs that resume.
"""

import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save
from torch import Tensor

from cellpatch.pretraining.facts import PretrainingCost
from cellpatch.pretraining.fit import PretrainingFit
from cellpatch.probing.feature_key import digest_of
from cellpatch.runtime.atomic_io import atomic_directory, file_lock, sha256_of

log = logging.getLogger(__name__)
WEIGHTS, ENTRY = "weights.safetensors", "entry.json"
_COST = TypeAdapter(PretrainingCost)  # built once: a schema, not state


@dataclass(frozen=True)
class Pretrained:
    """A pretrained backbone: its tensors, what they took, its entry's name, and whether it existed before."""

    state: dict[str, Tensor]
    cost: PretrainingCost
    entry: str
    reused: bool


@dataclass(frozen=True)
class PretrainedCache:
    """A folder of pretrained backbones."""

    folder: Path

    def get(self, fit: PretrainingFit, name: str) -> Pretrained:
        """The backbone of a pretraining, pretrained now unless it is stored; `name` begins its folder's name.

        If several processes ask for the same one, one pretrains and the others wait. What a killed process left is made
        again. Raises ValueError for an entry that was altered, or a folder that cannot be written.
        """
        key = fit.key()
        digest = digest_of(key)
        if found := self._find(digest):  # no lock: the folder may be read-only
            return _read(found, reused=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = file_lock(self.folder / f".{digest}.lock").acquire()
        except OSError as error:
            message = f"{self.folder}, beside data.loading.embeddings_dir, cannot be written: {error.strerror}"
            raise ValueError(message) from error
        with lock:
            if found := self._find(digest):
                return _read(found, reused=True)
            for incomplete in self.folder.glob(f"[!.]*-{digest}"):
                shutil.rmtree(incomplete)
            safe = re.sub(r"[^-\w.]+", "_", name).lstrip(".")
            target = self.folder / f"{safe}-{digest}"
            log.info("pretraining on %d crops without labels: %s", len(fit.cells), target)
            with atomic_directory(target) as temporary:
                state, cost = fit.run()
                (temporary / WEIGHTS).write_bytes(save(state))  # not save_file: on a full disk it raises no OSError
                stored = {"content": key, "sha256": sha256_of(temporary / WEIGHTS), "cost": asdict(cost)}
                (temporary / ENTRY).write_text(json.dumps(stored, indent=1), encoding="utf-8")
            return Pretrained(state, cost, target.name, reused=False)

    def _find(self, digest: str) -> Path | None:
        """The complete entry with a digest, whatever its name."""
        entries = sorted(self.folder.glob(f"[!.]*-{digest}"))
        return next((each for each in entries if (each / WEIGHTS).exists() and (each / ENTRY).exists()), None)


def _read(entry: Path, reused: bool) -> Pretrained:
    try:
        stored = json.loads((entry / ENTRY).read_text(encoding="utf-8"))
        sha256, cost = stored["sha256"], _COST.validate_python(stored["cost"])
    except (ValueError, LookupError, TypeError, ValidationError) as error:
        raise ValueError(f"{entry}: {ENTRY} cannot be read ({error}): delete the folder") from error
    if sha256_of(entry / WEIGHTS) != sha256:
        raise ValueError(f"{entry}: the checksum of {WEIGHTS} differs from {ENTRY}: delete the folder")
    log.info("pretrained before: %s", entry)
    return Pretrained(load_file(entry / WEIGHTS), cost, entry.name, reused)
