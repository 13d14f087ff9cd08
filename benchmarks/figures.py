"""How long do all figures and tables of a paper take, and how much memory?

    python benchmarks/figures.py [--runs 500] [--json FILE]

The runs are stored ones: folders with a sealed record and predictions under nine conditions of 3,700 simulated test
cells of 16 classes and 60 specimens. Wall time and peak memory of
`experiments/report/make_all.py all RUNS`.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from measured import ROOT, Measured, option_parser, report

from cellpatch import __version__
from cellpatch.config.schema import compose_config, models
from cellpatch.config.validate import check
from cellpatch.metrics.classification import score_predictions
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.condition_scores import ConditionScores, metrics_row
from cellpatch.runs.training_code import TRAINING_CODE

CLASSES = [f"type {i:02}" for i in range(16)]
CELLS, SPECIMENS = 3700, 60
LIMITS, SEEDS = (256, 512, 1024, 2048, 4096, 8192, 16384), (0, 1, 2)
CONDITIONS = [CLEAN, *(Condition(kind, sigma) for kind in ("pre", "post") for sigma in (0.4, 0.8, 1.6, 3.2))]
FIXED_FACTS = {  # of a record, the same for every run
    "identity": "simulated",
    "cellpatch": __version__,
    "training_code": {"number": TRAINING_CODE, "fingerprint": "simulated"},
    "data": {"fingerprint": "simulated", "source": {"synthetic": True, "licence": "none"}},
    "weights": None,
    "temperature": 1.0,
    "seconds": {"train": 1.0},
}


def write_runs(folder: Path, n: int) -> None:
    """Folders of `n` runs over models, limits and seeds, with predictions drawn at random around a known skill."""
    # not at the top: the peak memory of a command counts what the process that starts it has imported
    from cellpatch.runs.stored_run import PREDICTIONS, write_predictions, write_record

    fixed = np.random.default_rng(0)
    labels = fixed.integers(0, len(CLASSES), CELLS)
    specimens = np.sort(fixed.integers(0, SPECIMENS, CELLS))
    cells = pd.DataFrame({"cell_id": [f"c{i}" for i in range(CELLS)], "specimen": [f"s{s:02}" for s in specimens]})
    adapted = [
        ("scratch" if not pretrained else adapt, name)
        for name, pretrained in models().items()
        for adapt in (("scratch",) if not pretrained else ("linear_probe", "knn"))
    ]
    grid = list(product(adapted, LIMITS, SEEDS))[:n]
    for number, ((adapt, model), limit, seed) in enumerate(grid):
        skill = 1.5 + 0.2 * np.log2(limit / 256) + 0.05 * (hash_of(model) % 10)
        predicted = draw_predictions(np.random.default_rng(number), labels, skill)
        run = folder / f"{model}-{adapt}-{limit}-s{seed}"
        run.mkdir(parents=True)
        write_predictions(run / PREDICTIONS, cells, labels, predicted, CLASSES)
        metrics = [
            metrics_row(ConditionScores(condition, score_predictions(labels, probabilities, CLASSES, 1.0)))
            for condition, probabilities in predicted.items()
        ]
        config = check(compose_config([f"model={model}", f"adapt={adapt}", f"flag_limit={limit}", f"seed={seed}"]))
        counts = {"train": dict.fromkeys(CLASSES, limit)}
        facts = {"config": config.values, "classes": CLASSES, "metrics": metrics, "counts": counts}
        write_record(run, {"run": run.name} | FIXED_FACTS | facts)


def draw_predictions(rng: np.random.Generator, labels: np.ndarray, skill: float) -> dict[Condition, np.ndarray]:
    """Probabilities [n, classes] under each condition; more blur leaves less of the skill."""
    predicted = {}
    for condition in CONDITIONS:
        logits = rng.standard_normal((CELLS, len(CLASSES)))
        logits[np.arange(CELLS), labels] += skill * (1 - 0.2 * np.log2(1 + condition.sigma))
        exponents = np.exp(logits)
        predicted[condition] = (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)
    return predicted


def hash_of(name: str) -> int:
    """The same number for the same name in every process."""
    return sum(name.encode())


def main() -> None:
    options = option_parser("Time all figures and tables.", runs=500).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        writing = multiprocessing.get_context("spawn").Process(
            target=write_runs, args=(Path(folder) / "runs", options.runs)
        )  # not here: on Linux the peak memory of a command counts what started it
        writing.start()
        writing.join()
        if writing.exitcode:
            sys.exit("error: the runs were not written")
        command = [sys.executable, str(ROOT / "experiments" / "report" / "make_all.py"), "all", "runs"]
        started = time.perf_counter()
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as making:  # noqa: S603
            _, status, used = os.wait4(making.pid, 0)
            making.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if making.returncode:
            sys.exit("error: the figures were not drawn")
        made = len(list(Path(folder, "figures").glob("*.png")))
    peak = used.ru_maxrss / 1024
    name = f"figures, {made} and tables of {options.runs} runs"
    report(
        [
            Measured(name, [seconds], "s", "at most", 60, {}),
            Measured("figures, peak memory", [peak], "MiB", "at most", 1000, {}),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
