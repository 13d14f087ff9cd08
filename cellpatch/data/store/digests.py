"""What tells crops apart, or finds that they are the same or nearly so."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, UInt8

from cellpatch.data.store.near_copies import signatures


@dataclass(frozen=True, eq=False)
class CropHashes:
    """Of n crops: 16 bytes each, equal for equal crops, and the signatures that find nearly equal ones."""

    digests: list[bytes]
    signatures: Int8[np.ndarray, "n windows blocks"]

    def __getitem__(self, part: slice) -> "CropHashes":
        return CropHashes(self.digests[part], self.signatures[part])


def digest_of(crop: UInt8[np.ndarray, "side side 3"]) -> bytes:
    """16 bytes, equal for equal crops."""
    return hashlib.blake2b(np.ascontiguousarray(crop).data, digest_size=16).digest()


def hashes_of(crops: UInt8[np.ndarray, "n side side 3"]) -> CropHashes:
    """The hashes of crops; a process that has just decoded them computes them while they are in its cache."""
    return CropHashes([digest_of(crop) for crop in crops], signatures(crops))
