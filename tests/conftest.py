"""Small worlds to test in: folders of synthetic squares, stores, and the real data where they are available."""

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings
from omegaconf import DictConfig
from PIL import Image

from cellpatch.config.schema import compose_config
from cellpatch.data.splitter import Split, SplitAudit
from cellpatch.data.store.reader import Geometry
from cellpatch.data.store.writer import CellRows, StoreWriter
from cellpatch.runtime.atomic_io import atomic_directory
from cellpatch.sweeps.train import train

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
settings.register_profile("cellpatch", deadline=None)  # a busy machine is no fault
settings.load_profile("cellpatch")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # two threads on a busy two-core machine can be 20 times slower than one


def from_shared(relative: str) -> Path:
    """A file or folder of real data; the test is skipped where they are missing."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip("needs ../shared")
    return path


@pytest.fixture(scope="session")
def endonuke() -> Path:
    return from_shared("data/endonuke_ihc")


@pytest.fixture(scope="session")
def ome_tiff() -> Path:
    return from_shared("data/openslide_ki67/OS-2-ndpi.ome.tif")


@pytest.fixture(scope="session")
def dinov2_file() -> Path:
    return from_shared("weights/dinov2_vits14.safetensors")


def config_of(tmp_path: Path, root: Path, *overrides: str) -> DictConfig:
    """The config of a run on a folder of images, with all that it writes under `tmp_path`."""
    fixed = ["data=folder", f"data.root={root}", f"data.loading.store_dir={tmp_path / 'stores'}", "logger=none"]
    fixed += [f"runs_dir={tmp_path / 'runs'}", f"data.loading.embeddings_dir={tmp_path / 'embeddings'}"]
    return compose_config([*fixed, "trainer.accelerator=cpu", *overrides])


def start_python(*arguments: str) -> subprocess.Popen[str]:
    """Start a fresh interpreter that finds cellpatch and the tests, with one thread."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def square_crop(rng: np.random.Generator, channel: int, side: int = 16) -> np.ndarray:
    """Grey noise with a bright square in one channel: a class that a network must learn to 1.00."""
    crop = rng.integers(60, 120, (side, side, 3))
    y, x = rng.integers(0, side - 6, 2)
    crop[y : y + 6, x : x + 6, channel] = 250
    return crop.astype(np.uint8)


def run_of_squares(root: Path, *overrides: str) -> Path:
    """A small run trained on squares of three colours at 0.5 um/px, in `root`."""
    rng = np.random.default_rng(0)
    for code, name in enumerate(("red", "green", "blue")):
        for specimen in range(5):
            for i in range(4):
                file = root / "cells" / name / f"s{specimen}" / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(square_crop(rng, code)).save(file)
    train(config_of(root, root / "cells", *overrides, "data.um_per_px=0.5"))
    [record] = (root / "runs").glob("*/record.json")
    return record.parent


def image_of_squares(rng: np.random.Generator) -> Image.Image:
    """Six squares around SQUARE_CENTRES: three colours from the left to the right, in two rows."""
    rows = [np.concatenate([square_crop(rng, i) for i in range(3)], axis=1) for _ in range(2)]
    return Image.fromarray(np.concatenate(rows))


SQUARE_CENTRES = [(8, 8), (24, 8), (40, 8), (8, 24), (24, 24), (40, 24)]


@pytest.fixture
def folder_of_squares(tmp_path: Path) -> Callable[..., Path]:
    """Write CLASS/SPECIMEN/image.png; classes are red, green, blue squares."""

    def write(per_class: int = 12, specimens: int = 4, side: int = 16, name: str = "cells") -> Path:
        rng = np.random.default_rng(0)
        for channel, label in enumerate(("red", "green", "blue")):
            for i in range(per_class):
                folder = tmp_path / name / label / f"specimen{i % specimens}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(square_crop(rng, channel, side)).save(folder / f"{i:04d}.png")
        return tmp_path / name

    return write


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., Path]:
    """Write a store of random crops directly."""

    def write(n: int = 30, side: int = 8, specimens: int = 5, shard_rows: int = 7, name: str = "store") -> Path:
        rng = np.random.default_rng(1)
        crops = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        target = tmp_path / name
        with (
            atomic_directory(target) as folder,
            StoreWriter(folder, ["a", "b"], Geometry(side), {"kind": "test"}, shard_rows) as writer,
        ):
            writer.add(
                crops,
                CellRows(
                    cell_id=[str(i) for i in range(n)],
                    label=["ab"[i % 2] for i in range(n)],
                    specimen=[f"s{i % specimens}" for i in range(n)],
                    source=[f"row {i}" for i in range(n)],
                ),
            )
        np.save(tmp_path / f"{name}-crops.npy", crops)
        return target

    return write


def unaudited_split(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Split:
    """A split of given cells, where a test does not look at its audit."""
    return Split(train, validation, test, SplitAudit("source", 0, None, 1, 0, 1, {}, 0, {}, {}, {}))


def paired_sweeper() -> type[Any]:
    """Our sweeper's class, derived from Hydra's own of now: Hydra loads its plugins anew whenever it looks for them."""
    from hydra_plugins import cellpatch_sweeper

    return importlib.reload(cellpatch_sweeper).PairedSweeper  # type: ignore[no-any-return]


Invoke = Callable[[Callable[[list[str]], None], list[str], Path], subprocess.CompletedProcess[str]]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Invoke]:
    """Call the main function of a command in a folder: what it printed and its status, as of a process of its own."""
    root = logging.getLogger()
    before = root.handlers, root.level

    def call(main: Callable[[list[str]], None], arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        GlobalHydra.instance().clear()
        root.handlers = []
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", sys.argv[:1])  # Hydra's commands change it
        capfd.readouterr()
        status: int | str | None = 0
        try:
            main(arguments)
        except SystemExit as end:
            status = end.code
        out, err = capfd.readouterr()
        message = f"{status}\n" if isinstance(status, str) else ""
        return subprocess.CompletedProcess(arguments, 1 if message else int(status or 0), out, err + message)

    monkeypatch.setenv("COLUMNS", "120")
    yield call
    GlobalHydra.instance().clear()
    root.handlers, root.level = before
