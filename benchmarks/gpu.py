"""How fast is it on a GPU? One call of under ten minutes that needs nothing but the project and one GPU.

    python benchmarks/gpu.py [--json FILE] [--quick]          # with PYTHONPATH=. where the project is not installed

* the chip's own matrix rate: bf16 products of 8192 x 8192;
* training cells/s of customvit, resnet and cnn with everything on the device, against the bare loop of
  benchmarks/training.py, and what share of the matrix rate its arithmetic is (6 operations a multiply-accumulate);
* cells/s of features of ViT-L/16 at 224 px (random weights: speed alone), in 32 bits as an embedding is computed and
  in bf16, and their share of the matrix rate;
* hours of the 8 x 7 grid from scratch with the default updates, estimated from each model's measured cells/s;
* seconds to train customvit at flag_limit 16384 on synthetic cells of the study's number, and its macro-F1.

The file is written anew after each step, the longest last: an interrupted call keeps the steps that it has finished.

--quick runs a small version of each step, on the CPU if there is no GPU: it shows that they run, its numbers mean
nothing.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measured import ROOT, Measured, as_line
from suite import as_rows, made_on, write_json
from training import measure, now

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config, models
from cellpatch.data.synthetic.cell_counts import class_totals
from cellpatch.data.synthetic.source import GEOMETRY
from cellpatch.models.backbone import count_macs
from cellpatch.optics.operator import to_pixels
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.device import inference_mode
from cellpatch.sweeps.train import train
from cellpatch.training.adaptation import FineTuning

LIMITS = (256, 512, 1024, 2048, 4096, 8192, 16384)


def matrix_rate(device: torch.device, side: int, repeats: int) -> Measured:
    """Operations a second of a bf16 matrix product."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(repeats + 3):
        started = now()
        a @ b
        rates.append(2 * side**3 / (now() - started) / 1e12)
    return Measured("matrix rate", rates[3:], "TFLOP/s", "at least", None, {})


def share_of_rate(name: str, cells_per_s: float, flops: float, rate: float) -> Measured:
    """Which share of the matrix rate an arithmetic of `flops` a cell is."""
    return Measured(name, [cells_per_s * flops / rate / 1e12], "of the matrix rate", "at least", None, {})


def macs_of(model: str) -> int:
    """Multiply-accumulates of a model's forward pass of one cell."""
    return count_macs(assemble(compose_config([f"model={model}"])).model.on_meta())


def train_whole(folder: Path, quick: bool) -> Measured:
    """Seconds to train customvit at the study's largest limit by the default recipe, store and record apart."""
    cells, limit = (2000, 16) if quick else (185_432, 16384)
    settings = ["model=customvit", f"data.cells={cells}", f"flag_limit={limit}"]
    settings += ["adapt.updates=10", "adapt.validations=2"] if quick else ["data.specimens=303"]
    settings += [f"data.workers={os.cpu_count()}", "logger=none", f"runs_dir={folder}/runs"]
    outcome = train(compose_config([*settings, f"data.loading.store_dir={folder}/stores"]))
    record = StoredRun.open(folder / "runs" / outcome.run).record
    assert record.seconds.all is not None
    assert record.epochs is not None
    beside = {"macro-F1": record.clean.macro_f1, "s with record": record.seconds.all}
    beside |= {"epochs": record.epochs, "training cells": record.n_train}
    return Measured(f"customvit at {limit}", [record.seconds.train], "s", "at most", None if quick else 60, beside)


@inference_mode()
def embed(device: torch.device, batch: int, batches: int, bf16: bool) -> Measured:
    """Cells/s of ViT-L/16 at 224 px, from stored uint8 crops on the device to features."""
    experiment = assemble(compose_config(["model=uni"]))
    backbone = experiment.model.create().to(device).eval()
    optics = experiment.path(GEOMETRY).under().to(device)
    crops = torch.randint(0, 256, (batch, *(GEOMETRY.side_px,) * 2, 3), dtype=torch.uint8, device=device)
    rates = []
    for _ in range(batches + 2):
        started = now()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            backbone(optics(to_pixels(optics.trim(crops))))
        rates.append(batch / (now() - started))
    return Measured(f"ViT-L/16 at 224 px, {'bf16' if bf16 else '32 bits'}", rates[2:], "cells/s", "at least", None, {})


def hours_of_grid(cells_per_s: dict[str, float], quick: bool) -> Measured:
    """Of eight models at seven limits, one seed, on 60 % of the study's cells in our synthetic shares."""
    adaptation = assemble(compose_config(["model=cnn"])).adaptation
    assert isinstance(adaptation, FineTuning)
    available = 0.6 * class_totals(185_432)
    least = adaptation.updates * adaptation.batch_size
    trained = sum(max(least, adaptation.min_epochs * np.minimum(limit, available).sum()) for limit in LIMITS)
    hours = sum(trained / speed for speed in cells_per_s.values()) / 3600
    return Measured("8 x 7 grid, estimated", [hours], "hours of training steps", "at most", None if quick else 1.0, {})


def main() -> None:
    parser = argparse.ArgumentParser(description="Time everything on a GPU.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "gpu.json")
    options = parser.parse_args()
    quick = options.quick
    if not torch.cuda.is_available() and not quick:
        raise SystemExit("error: there is no GPU here; --quick shows that the steps run")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    results: list[Measured] = []
    facts = {"quick": quick, **made_on()}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()

    def add(*more: Measured) -> None:
        results.extend(more)
        print("\n".join(map(as_line, more)), flush=True)
        write_json({"seconds": time.perf_counter() - started, **facts, "found": as_rows(results)}, options.json)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        add(matrix_rate(device, *((512, 3) if quick else (8192, 20))))
        rate = results[0].median
        from_scratch = [model for model, pretrained in models().items() if not pretrained]
        speeds = {}
        for model in ["cnn"] if quick else from_scratch:
            against, speed = measure(model, 2 if quick else 4, folder, accelerator, 8 if quick else 1024, "none")
            speeds[model] = speed.median
            add(against, speed, share_of_rate(f"train, {model}", speed.median, 6 * macs_of(model), rate))
        for bf16 in (False, True):
            speed = embed(device, *((2, 1) if quick else (256, 20)), bf16)
            add(speed, share_of_rate(speed.name, speed.median, 2 * macs_of("uni"), rate))
        add(hours_of_grid(speeds, quick))
        add(train_whole(folder, quick))


if __name__ == "__main__":
    main()
