"""Kill a grid again and again at random moments: python tests/kill_grid.py FOLDER [--kills 200] [--seed 0].

A grid of small runs on synthetic squares is started, killed with SIGKILL after a random time and started again, half of the
times with trainer.resume=true. After each kill every finished run must be whole and the same file as before; at the end every run
must be there once, equal to the last bit to that of a grid that nobody disturbed. Each start is a fork of a process that
has imported everything, so that kills fall into the work and not into imports.
"""

import argparse
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

GRID = ["-m", "data=folder", "model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4,8]", "logger=none"]
GRID += [
    "adapt.batch_size=8",
    "flag_limit=4,6,8",
    "trainer.max_epochs=12",
    "adapt.patience=12",
    "trainer.accelerator=cpu",
]


def start(folder: Path, runs_dir: Path, seeds: int, resume: bool, log: Path) -> int:
    """Fork a process that does the grid; its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["train.py", *GRID, f"data.root={folder / 'cells'}", f"data.loading.store_dir={folder / 'stores'}"]
    sys.argv += [f"runs_dir={runs_dir}", f"seed=range({seeds})", f"trainer.resume={str(resume).lower()}"]
    status = 1
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    finally:
        os._exit(status)


def finished(runs_dir: Path) -> dict[str, tuple[int, int]]:
    """Of each run that is there, what would change if it were written again."""
    stats = {file.parent.name: file.stat() for file in runs_dir.glob("[!.]*/record.json")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def write_cells(root: Path) -> None:
    rng = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        for i in range(60):
            crop = rng.integers(60, 120, (16, 16, 3))
            y, x = rng.integers(0, 10, 2)
            crop[y : y + 6, x : x + 6, channel] = 250
            file = root / label / f"s{i % 5}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop.astype(np.uint8)).save(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kill a grid at random moments and compare it with an undisturbed one."
    )
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=40, help="the grid has three runs a seed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    folder, moments = options.folder.resolve(), np.random.default_rng(options.seed)

    import torch

    import cellpatch.training  # noqa: F401  here, and not in each start
    from cellpatch.record import check_files

    torch.set_num_threads(1)
    write_cells(folder / "cells")
    started = time.monotonic()
    calm, killed = folder / "undisturbed", folder / "killed"
    _, status = os.waitpid(start(folder, calm, options.seeds, False, folder / "undisturbed.log"), 0)
    assert os.waitstatus_to_exitcode(status) == 0, (folder / "undisturbed.log").read_text()[-2000:]
    alone = time.monotonic() - started
    n = 3 * options.seeds
    print(f"{n} runs undisturbed: {alone:.0f} s", flush=True)

    kills, resumed, seen = 0, 0, finished(killed)
    begun = time.monotonic()
    while kills < options.kills:
        child = start(folder, killed, options.seeds, moments.random() < 0.5, folder / "killed.log")
        time.sleep(moments.uniform(0, 2.5 * alone / n + 1))
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:  # not yet a session of its own
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
        now = finished(killed)
        assert seen.items() <= now.items(), f"written again: {seen.items() - now.items()}"
        for name in now.keys() - seen.keys():
            check_files(killed / name)
        seen = now
        if kills % 20 == 0:
            print(f"{kills} kills, {len(seen)} of {n} runs, {time.monotonic() - begun:.0f} s", flush=True)
    _, status = os.waitpid(start(folder, killed, options.seeds, True, folder / "killed.log"), 0)
    assert os.waitstatus_to_exitcode(status) == 0, (folder / "killed.log").read_text()[-2000:]
    assert seen.items() <= finished(killed).items()

    names = sorted(finished(calm))
    assert sorted(finished(killed)) == names, "every run once"
    assert len(names) == n
    from cellpatch.record import read_record

    for name in names:
        for file in ("weights.safetensors", "predictions.parquet"):
            assert (killed / name / file).read_bytes() == (calm / name / file).read_bytes(), f"{name}/{file}"
        assert read_record(killed / name)["metrics"] == read_record(calm / name)["metrics"], name
        resumed += bool(read_record(killed / name)["resumed_at_epoch"])
    left = [place.name for place in killed.glob(".*.tmp")] + [place.name for place in killed.glob(".progress/*")]
    assert not left, left
    print(
        f"{kills} kills in {time.monotonic() - begun:.0f} s: {n} runs, each there once and equal to the last bit; "
        f"{resumed} of them went on from an epoch; none was written twice"
    )


if __name__ == "__main__":
    main()
