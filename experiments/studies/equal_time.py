"""Is a run ahead of a ResNet-18 in a bare PyTorch loop after the same core seconds?

    python experiments/studies/equal_time.py data=endonuke data.root=DIR model=cnn core_seconds=60,300,1200

For each budget the run of the config is trained by `python train.py` with as many updates as fit in, start, validation
and evaluation included, on clean cells and one thread. The bare loop (references.py) then gets exactly the core seconds
that the whole command took: for its steps and validations alone, its start, its reading of cells and its test are free.
Its learning rate follows the same share of its time. One seed. Prints a line for each budget and appends them to
equal_time.csv in the current folder.
"""

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from references import Part, predict_classes, read_parts, to_input, turn
from sklearn.metrics import f1_score
from torch.nn.functional import cross_entropy

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.runs.stored_run import StoredRun

ROOT = Path(__file__).parents[2]
WARMUP, LR = 0.1, 1e-3
CLEAN = ["optics=clean", "logger=none", "flag_limit=16384", "trainer.accelerator=cpu"]


def validations_in(seconds: float) -> int:
    """How often both validate: at short budgets seldom, for each time takes seconds."""
    return int(np.clip(seconds / 20, 3, 10))


def train_ours(overrides: list[str], updates: int, folder: Path) -> tuple[float, float]:
    """Core seconds of the whole command, and test macro-F1."""
    runs = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "train.py", *overrides, *CLEAN, f"trainer.max_steps={updates}", f"runs_dir={runs}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before = _core_seconds()
    subprocess.run(command, cwd=ROOT, check=True, env=environment, capture_output=True)  # noqa: S603
    taken = _core_seconds() - before
    run = next(file.parent for file in runs.glob("*/record.json"))
    return taken, StoredRun.open(run).record.clean.macro_f1


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fit_bare(parts: dict[str, Part], n_classes: int, seconds: float, validations: int) -> tuple[int, float]:
    """Steps that a ResNet-18 makes in these core seconds, and its test macro-F1 with its best validated weights."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=n_classes)
    inputs = {name: to_input(crops) for name, (crops, _) in parts.items()}
    labels = {name: torch.from_numpy(part[1]) for name, part in parts.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05)
    best, kept, validated, steps = -1.0, model.state_dict(), 0, 0
    started = time.process_time()
    while (share := (time.process_time() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(share / WARMUP, (1 + np.cos(np.pi * share)) / 2)
        model.train()
        index = torch.randint(len(labels["train"]), (128,))
        loss = cross_entropy(model(turn(inputs["train"][index])), labels["train"][index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if share * validations >= validated + 1 or share > 0.99:
            validated += 1
            score = f1_score(labels["validation"], predict_classes(model, inputs["validation"]), average="macro")
            if score > best:
                best, kept = score, {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return steps, float(f1_score(labels["test"], predict_classes(model, inputs["test"]), average="macro"))


def main(arguments: list[str]) -> None:
    budgets = [each.partition("=")[2].split(",") for each in arguments if each.startswith("core_seconds=")]
    overrides = [each for each in arguments if not each.startswith("core_seconds=")]
    torch.set_num_threads(1)
    experiment = assemble(compose_config([*overrides, *CLEAN]))
    dataset = open_dataset(open_store(experiment.data), experiment.data.split, experiment.flag_limit, experiment.seed)
    parts = read_parts(dataset.store, dataset.split, dataset.labels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_ours(overrides, 10, folder)  # prepares cells, compiles modules
        for seconds in map(float, budgets[0] if budgets else ["60"]):
            validations = validations_in(seconds)
            settings = [*overrides, f"adapt.validations={validations}"]
            few, more = (train_ours(settings, updates, folder)[0] for updates in (20, 80))
            updates = max(1, round(20 + 60 * (seconds - few) / (more - few)))
            taken, ours = train_ours(settings, updates, folder)
            steps, bare = fit_bare(parts, len(dataset.classes), taken, validations)
            row = [experiment.data.name, experiment.model.name, round(taken, 1), updates, round(ours, 4), steps]
            row.append(round(bare, 4))
            print(*row, sep="  ", flush=True)
            _append(row, Path("equal_time.csv"))


def _append(row: list[object], file: Path) -> None:
    is_new = not file.exists()
    with file.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if is_new:
            writer.writerow(["data", "model", "core_seconds", "updates", "macro_f1", "bare_steps", "bare_macro_f1"])
        writer.writerow(row)


if __name__ == "__main__":
    main(sys.argv[1:])
