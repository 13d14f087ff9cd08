"""How long do all figures and tables of a paper take, and how much memory?

    python benchmarks/figures.py [--runs 500] [--times 10] [--json FILE]

The runs are stored ones: folders with a sealed record and predictions under nine conditions of 3,700 simulated test
cells of 16 classes and 60 specimens. Wall time and peak memory of
`experiments/report/make_all.py all RUNS`; then of ten times as many runs.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice, product
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
from cellpatch.runtime.json_types import Json

CLASSES = [f"type {i:02}" for i in range(16)]
CELLS, SPECIMENS = 3700, 60
MODELS, LIMITS, SEEDS = 24, (256, 512, 1024, 2048, 4096, 8192, 16384), 3
CONDITIONS = [CLEAN, *(Condition(kind, sigma) for kind in ("pre", "post") for sigma in (0.4, 0.8, 1.6, 3.2))]
FIXED_FACTS = {  # of a record, the same for every run
    "identity": "0" * 12,
    "cellpatch": __version__,
    "training_code": {"number": TRAINING_CODE, "fingerprint": "simulated"},
    "data": {"fingerprint": "simulated", "source": {"synthetic": True, "licence": "none"}},
    "weights": None,
    "temperature": 1.0,
    "seconds": {"train": 1.0},
}


def write_runs(folder: Path, n: int) -> None:
    """Folders of `n` runs over models, limits and seeds, with predictions drawn at random around a known skill.

    A grid of 24 models, seven limits and three seeds has 504 runs; more runs are more seeds, which repeat the
    predictions of the first three as links. Scores in records are of the first model at the limit: none of their
    readers needs those of each, and they take longer than the predictions.
    """
    # not at the top: the peak memory of a command counts what the process that starts it has imported
    from cellpatch.runs.stored_run import PREDICTIONS, WEIGHTS, write_predictions, write_record

    fixed = np.random.default_rng(0)
    labels = fixed.integers(0, len(CLASSES), CELLS)
    specimens = np.sort(fixed.integers(0, SPECIMENS, CELLS))
    cells = pd.DataFrame({"cell_id": [f"c{i}" for i in range(CELLS)], "specimen": [f"s{s:02}" for s in specimens]})
    adapted = [
        ("scratch" if not pretrained else adapt, name)
        for name, pretrained in models().items()
        for adapt in (("scratch",) if not pretrained else ("linear_probe", "knn"))
    ][:MODELS]
    seeds = SEEDS * -(-n // (MODELS * len(LIMITS) * SEEDS))
    configs = {pair: check(compose_config([f"adapt={pair[0]}", f"model={pair[1]}"])).values for pair in adapted}
    metrics: dict[tuple[int, int], list[Json]] = {}
    drawn: dict[tuple[str, int, int], Path] = {}
    for number, ((adapt, model), limit, seed) in enumerate(islice(product(adapted, LIMITS, range(seeds)), n)):
        run = folder / f"{model}-{adapt}-{limit}-s{seed}"
        run.mkdir(parents=True)
        source, at = (f"{model}-{adapt}", limit, seed % SEEDS), (limit, seed % SEEDS)
        if source in drawn:
            os.link(drawn[source], run / PREDICTIONS)
        else:
            drawn[source] = run / PREDICTIONS
            skill = 1.5 + 0.2 * np.log2(limit / 256) + 0.05 * (hash_of(model) % 10)
            predicted = draw_predictions(np.random.default_rng(number), labels, skill)
            write_predictions(run / PREDICTIONS, cells, labels, predicted, CLASSES)
            if at not in metrics:
                metrics[at] = [
                    metrics_row(ConditionScores(condition, score_predictions(labels, probabilities, CLASSES, 1.0)))
                    for condition, probabilities in predicted.items()
                ]
        (run / WEIGHTS).touch()
        config = configs[adapt, model] | {"flag_limit": limit, "seed": seed}
        counts = {"train": dict.fromkeys(CLASSES, limit)}
        facts = {"config": config, "classes": CLASSES, "metrics": metrics[at], "counts": counts}
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


def make_all(runs: int) -> tuple[float, float, int]:
    """Seconds and peak memory in MiB of the command on so many runs, and how many figures it drew."""
    with tempfile.TemporaryDirectory() as folder:
        writing = multiprocessing.get_context("spawn").Process(
            target=write_runs, args=(Path(folder) / "runs", runs)
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
        return seconds, used.ru_maxrss / 1024, len(list(Path(folder, "figures").glob("*.png")))


def main() -> None:
    options = option_parser("Time all figures and tables.", runs=500, times=10).parse_args()
    seconds, peak, made = make_all(options.runs)
    name = f"figures, {made} and tables of {options.runs} runs"
    found = [
        Measured(name, [seconds], "s", "at most", 60, {}),
        Measured(f"{name}, peak memory", [peak], "MiB", "at most", 1000, {}),
    ]
    if options.times > 1:
        more, peak, _ = make_all(options.times * options.runs)
        name = f"figures and tables of {options.times * options.runs} runs"
        found += [
            Measured(name, [more / seconds], "times the fewer runs'", "at most", 1.1 * options.times, {"s": more}),
            Measured(f"{name}, peak memory", [peak], "MiB", "at most", 1500, {}),
        ]
    report(found, options.json)


if __name__ == "__main__":
    main()
