"""Features of a frozen backbone, computed once for all cells of a store and kept on disk.

python -m cellpatch.embeddings [DIR] [--clear NAME ... | --clear-all]
"""

import argparse
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float
from rich.progress import track

from cellpatch.augment import KorniaAugment
from cellpatch.classifier import Network
from cellpatch.data.datamodule import to_pixels
from cellpatch.data.store import CellStore
from cellpatch.publish import sha256_of, write_once

log = logging.getLogger(__name__)
_BATCH = 128
_GIB = 2**30
Dtype = Literal["float32", "float16"]


def features(
    network: Callable[[], Network],
    store: CellStore,
    content: dict[str, Any],
    folder: Path,
    limit_gib: float,
    device: torch.device,
    dtype: Dtype = "float32",
    view: tuple[KorniaAugment, int] | None = None,
) -> Float[np.ndarray, "n d"]:
    """Features of every cell of the store, memory-mapped; computed in one pass unless they are there.

    `content` holds all that determines them beside the store's cells, the dtype and the view: the fingerprint
    of the weights, the backbone's arguments, the optics. `network` is called only if they have to be computed.
    `view` is an augmentation and a number that seeds it. Many processes may ask: one computes, the others wait.
    Raises ValueError if the folder would grow beyond `limit_gib`.
    """
    key = content | {"data": store.manifest.fingerprint, "cells": len(store), "dtype": dtype}
    if view is not None:
        augment, number = view
        settings = [augment.stain_gain, augment.stain_offset, augment.shift_px]
        key["view"] = {"number": number, "augment": settings, "batch": _BATCH}
    text = json.dumps(key, sort_keys=True)
    target = folder / f"{content['name']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def fill(temporary: Path) -> None:
        _compute(network().to(device), store, temporary, dtype, view, lambda size: _check_room(folder, size, limit_gib))
        facts = {"content": key, "sha256": sha256_of(temporary / "features.npy")}
        (temporary / "key.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    write_once(target, fill)
    return _open(target)


def _compute(
    network: Network,
    store: CellStore,
    folder: Path,
    dtype: Dtype,
    view: tuple[KorniaAugment, int] | None,
    check_room: Callable[[int], None],
) -> None:
    device = next(network.parameters()).device
    network.eval()
    out: np.memmap | None = None
    for start in _progress(len(store)):
        cells = np.arange(start, min(start + _BATCH, len(store)))
        crops = torch.from_numpy(store.crops(cells)).to(device)
        with torch.inference_mode():
            found = network.features(crops) if view is None else _of_view(network, crops, view, start)
        if out is None:
            shape = (len(store), found.shape[1])
            size = shape[0] * shape[1] * np.dtype(dtype).itemsize
            check_room(size)
            log.info("embedding %d cells, %d features each: %.2f GiB in %s", *shape, size / _GIB, folder.parent)
            out = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype, shape)
        out[cells] = found.float().cpu().numpy()
    assert out is not None
    out.flush()


def _of_view(network: Network, crops: torch.Tensor, view: tuple[KorniaAugment, int], start: int) -> torch.Tensor:
    augment, number = view
    with torch.random.fork_rng(devices=[crops.device] if crops.device.type == "cuda" else []):
        torch.manual_seed(_seed_of(number, start))
        pixels = augment(to_pixels(network.optics.trim(crops, augment.shift_px)))
    return network.backbone(network.optics(pixels))


def _seed_of(*numbers: int) -> int:
    """One seed of several numbers."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "little")


def _progress(cells: int) -> Iterator[int]:
    """Starts of the batches: with a bar in a terminal, else with a line each tenth."""
    starts = range(0, cells, _BATCH)
    if sys.stderr.isatty():
        yield from track(starts, description="embedding")
        return
    tenth = max(1, len(starts) // 10)
    for done, start in enumerate(starts, 1):
        yield start
        if done % tenth == 0:
            log.info("embedded %d of %d cells", min(start + _BATCH, cells), cells)


def _check_room(folder: Path, size: int, limit_gib: float) -> None:
    held = sum(file.stat().st_size for file in folder.glob("[!.]*/features.npy"))
    if held + size > limit_gib * _GIB:
        raise ValueError(
            f"{folder} holds {held / _GIB:.2f} GiB of features and these are {size / _GIB:.2f}: more than "
            f"data.loading.embeddings_gib={limit_gib:g}; raise it, or clear some: "
            f"python -m cellpatch.embeddings {folder}"
        )


@lru_cache(maxsize=32)
def _open(folder: Path) -> Float[np.ndarray, "n d"]:
    """The memory map of one entry; raises ValueError if it was altered. Checked once in a process."""
    facts = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    if sha256_of(folder / "features.npy") != facts["sha256"]:
        raise ValueError(f"{folder}: the checksum of features.npy differs from key.json: delete the folder")
    return np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.embeddings", description="List or clear kept features.")
    parser.add_argument("folder", nargs="?", default="embeddings", type=Path)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--clear", nargs="+", metavar="NAME", default=[], help="delete these entries")
    group.add_argument("--clear-all", action="store_true", help="delete every entry")
    options = parser.parse_args(arguments)
    entries = {file.parent.name: file.stat().st_size for file in sorted(options.folder.glob("[!.]*/features.npy"))}
    unknown = sorted(set(options.clear) - set(entries))
    if unknown:
        sys.exit(f"error: {options.folder} has no {unknown}; it has {list(entries)}")
    for name in list(entries) if options.clear_all else options.clear:
        with FileLock(options.folder / f".{name}.lock"):
            shutil.rmtree(options.folder / name)
        print(f"deleted {name}, {entries.pop(name) / 2**20:.1f} MiB")
    for name, size in entries.items():
        print(f"{size / 2**20:10.1f} MiB  {name}")
    print(f"{sum(entries.values()) / _GIB:.2f} GiB in {len(entries)} entries of {options.folder}")


if __name__ == "__main__":
    main()
