"""What features of a frozen backbone depend on, and the key of their entry in the feature cache."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from pydantic import JsonValue

from cellpatch.data.augment import DeviceAugment
from cellpatch.data.store.reader import CellStore

# Raise it when a change of the code changes features: all entries of the cache are then computed anew. Other rounding
# does not count: devices, batches and processors, which are not in the key, differ by as much (1e-5 of the norm).
FEATURE_CODE = 1


class View(NamedTuple):
    """An augmentation of the crops, and the number of this copy, which seeds its draws."""

    augment: DeviceAugment
    number: int


@dataclass(frozen=True, eq=False)
class FeatureRequest:
    """Features of some cells of a store, as they are or as one augmented copy.

    `name` is the readable part of the entry's folder. `content` holds everything that the features depend on beside
    crops, view and library versions: the key of the model (`ModelSpec.key`), the fingerprint of its weights, the
    optics. It contains no import path and no version of cellpatch, so that features survive a move of the code.
    """

    store: CellStore
    cells: Int[np.ndarray, " n"]
    name: str
    content: Mapping[str, JsonValue]
    view: View | None = None

    def key(self, dtype: str) -> dict[str, JsonValue]:
        """What the features depend on, as plain JSON."""
        key: dict[str, JsonValue] = {
            **self.content,
            "crops": crops_fingerprint(self.store, self.cells),
            "dtype": dtype,
            "feature_code": FEATURE_CODE,
            "timm": metadata.version("timm"),
        }
        if self.view is not None:
            augment = self.view.augment
            settings: list[JsonValue] = [augment.stain_gain, augment.stain_offset, augment.shift_px]
            settings += [augment.erasing] if augment.erasing else []  # entries of before there was erasing stay
            key["view"] = {"number": self.view.number, "augment": settings}
        return key

    def folder_name(self, digest: str) -> str:
        """A name that stays inside the cache's folder."""
        safe = re.sub(r"[^-\w.]+", "_", self.name).lstrip(".")
        return f"{safe}-{digest}"


def digest_of(key: Mapping[str, JsonValue]) -> str:
    """Twelve hexadecimal digits that end the name of an entry's folder."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def crops_fingerprint(store: CellStore, cells: Int[np.ndarray, " n"]) -> str:
    """Covers the crops in their order and their geometry, but no label: a corrected label changes no feature."""
    digest = hashlib.sha256(json.dumps(asdict(store.geometry)).encode())
    digest.update(store.digests[cells].tobytes())
    return digest.hexdigest()[:16]
