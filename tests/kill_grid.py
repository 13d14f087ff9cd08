"""Kill a grid again and again at random moments: python tests/kill_grid.py FOLDER [--kills 200] [--seed 0].

A grid of small runs on synthetic squares is started, killed with SIGKILL after a random time and started again, half of
the times with trainer.resume=true; once all runs are there, the next round begins in empty folders, its cells' store
included, every other round with W&B offline. After each kill every finished run must be whole and the same file as
before; at the end of a round every run must be there once, equal to the last bit to that of a grid that nobody
disturbed. Each start is a fork of a process that has imported everything, and the time counts from its first job (of one
start in ten from its beginning), so that kills fall into work; what they fell into is counted and printed.
"""

import argparse
import os
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

LIMITS, EPOCHS = (4, 6, 8), 40
GRID = ["-m", "data=folder", "model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4,8]"]
GRID += ["adapt.batch_size=4", f"flag_limit={','.join(map(str, LIMITS))}", f"trainer.max_epochs={EPOCHS}"]
GRID += [f"adapt.patience={EPOCHS}", "trainer.accelerator=cpu"]


def start(cells: Path, place: Path, seeds: int, resume: bool, logger: str) -> int:
    """Fork a process that does the grid below `place`; its number."""
    (place / "log").write_text("")
    child = os.fork()
    if child:
        return child
    os.setsid()
    out = os.open(place / "log", os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["train.py", *GRID, f"data.root={cells}", f"data.loading.store_dir={place / 'stores'}"]
    sys.argv += [f"runs_dir={place / 'runs'}", f"seed=range({seeds})", f"trainer.resume={str(resume).lower()}"]
    sys.argv += [f"logger={logger}"]
    status = 1
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    finally:
        os._exit(status)


def do_whole(cells: Path, place: Path, seeds: int, logger: str) -> float:
    """Seconds of the grid, undisturbed; it must end well."""
    place.mkdir(exist_ok=True)
    started = time.monotonic()
    _, status = os.waitpid(start(cells, place, seeds, True, logger), 0)
    assert os.waitstatus_to_exitcode(status) == 0, (place / "log").read_text()[-2000:]
    return time.monotonic() - started


def finished(place: Path) -> dict[str, tuple[int, int]]:
    """Of each run that is there, what would change if it were written again."""
    stats = {file.parent.name: file.stat() for file in place.glob("runs/[!.]*/record.json")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def kill_one(cells: Path, place: Path, seeds: int, logger: str, moments: np.random.Generator, run_s: float) -> str:
    """Start the grid and kill it after a random time; what it was at, `nothing` if it had ended by itself."""
    child = start(cells, place, seeds, bool(moments.random() < 0.5), logger)
    from_the_start = moments.random() < 0.1
    until = time.monotonic() + 60
    while not from_the_start and "#0 :" not in (place / "log").read_text() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(moments.uniform(0, 1.5 * run_s + 0.4 * len(finished(place))))
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # not yet a session of its own
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return "nothing"
    if any(place.glob("stores/.*.tmp")):
        return "a store"
    return "a run" if any(place.glob("runs/.*.tmp")) else "between runs"


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


def compare(place: Path, calm: Path, n: int) -> int:
    """Every run is there once and equal to the undisturbed one, and nothing else is left; how many went on midway."""
    from stored import read_record

    names = sorted(finished(calm))
    assert sorted(finished(place)) == names, "every run once"
    assert len(names) == n
    for name in names:
        one, other = place / "runs" / name, calm / "runs" / name
        for file in ("weights.safetensors", "predictions.parquet", "validation.parquet"):
            assert (one / file).read_bytes() == (other / file).read_bytes(), f"{name}/{file}"
        assert read_record(one)["metrics"] == read_record(other)["metrics"], name
    left = [
        each.name for pattern in ("runs/.*.tmp", "runs/.progress/*", "stores/.*.tmp") for each in place.glob(pattern)
    ]
    assert not left, left
    return sum(bool(read_record(place / "runs" / name)["resumed_at_update"]) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kill a grid at random moments and compare it with an undisturbed one."
    )
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=4, help="a round has three runs a seed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    folder, moments = options.folder.resolve(), np.random.default_rng(options.seed)

    import torch

    import cellpatch.sweeps.train  # noqa: F401  here, and not in each start
    from cellpatch.runs.stored_run import StoredRun

    torch.set_num_threads(1)
    cells, calm, n = folder / "cells", folder / "undisturbed", len(LIMITS) * options.seeds
    write_cells(cells)
    run_s = do_whole(cells, calm, options.seeds, "none") / n
    print(f"{n} runs undisturbed: {run_s:.1f} s a run", flush=True)

    hit: Counter[str] = Counter()
    resumed = rounds = 0
    begun = time.monotonic()
    while sum(hit.values()) < options.kills:
        place, logger = folder / f"round{rounds}", ("none", "wandb")[rounds % 2]
        place.mkdir()
        seen = finished(place)
        while len(seen) < n and sum(hit.values()) < options.kills:
            what = kill_one(cells, place, options.seeds, logger, moments, run_s)
            hit.update([what] if what != "nothing" else [])
            now = finished(place)
            assert seen.items() <= now.items(), f"written again: {seen.items() - now.items()}"
            for name in now.keys() - seen.keys():
                StoredRun.open(place / "runs" / name).check_files()
            seen = now
        do_whole(cells, place, options.seeds, logger)
        assert seen.items() <= finished(place).items(), "written again"
        resumed += compare(place, calm, n)
        rounds += 1
        print(f"round {rounds}: {sum(hit.values())} kills, {time.monotonic() - begun:.0f} s", flush=True)
    at = ", ".join(f"{count} at {what}" for what, count in hit.most_common())
    assert hit["a run"] >= options.kills / 2, f"kills fell beside the work: {at}"
    print(
        f"{sum(hit.values())} kills ({at}) in {time.monotonic() - begun:.0f} s: {rounds} rounds of {n} runs, each there "
        f"once and equal to the last bit; {resumed} of them went on from an epoch; none was written twice"
    )
    assert resumed or options.kills < 20


if __name__ == "__main__":
    main()
