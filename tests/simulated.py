"""Results of runs that were never trained: confusion matrices drawn with a known skill, for figures, tables and pages."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.analysis.compact import compress
from cellpatch.analysis.run_result import CohortResult, RunResult
from cellpatch.metrics import scores as scores_module
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.predictions import Predictions
from cellpatch.runs.record import parse_record
from cellpatch.runs.stored_run import VALIDATION, StoredRun

CLASSES = ("stroma", "epithelium", "<script>alert(1)</script>")
SIGMAS = (0.4, 0.8, 1.6, 3.2)
FAULTS = [Condition("jpeg", 30.0), Condition("jpeg", 90.0), Condition("smaller", 40.0)]
SKILLS = {  # error = floor + gain (limit / 256)^-0.5, loss of score per log2(1 + sigma)
    ("cnn", "scratch", 40): (0.15, 0.45, 0.10),
    ("customvit", "scratch", 40): (0.05, 0.60, 0.15),
    ("dinov2_s", "linear_probe", 224): (0.30, 0.15, 0.05),
    ("dinov2_s", "linear_probe", 56): (0.32, 0.18, 0.05),
    ("efficientnet_lite0", "knn", 64): (0.40, 0.15, 0.08),
}
# one from scratch that is overtaken by a pretrained one that gains more
OTHER_WAY = {("customvit", "scratch", 40): (0.30, 0.10, 0.1), ("dinov2_s", "linear_probe", 224): (0.05, 0.60, 0.1)}


def simulated(
    limits: tuple[int, ...] = (256, 512, 1024, 4096),
    seeds: tuple[int, ...] = (0, 1, 2),
    skills: dict[tuple[str, str, int], tuple[float, float, float]] = SKILLS,
    data: str = "simulated",
    specimens: int = 30,
    faults: Sequence[Condition] = FAULTS,
) -> list[RunResult]:
    """One result a model, limit and seed, on the same cells, under clean, pre and post blur, and other faults."""
    conditions = [CLEAN, *(Condition(kind, sigma) for kind in ("pre", "post") for sigma in SIGMAS), *faults]
    fixed = np.random.default_rng(0)
    true = fixed.multinomial(fixed.integers(30, 90, specimens), [0.5, 0.35, 0.15])
    hardness = fixed.normal(0, 0.06, (specimens, 1))
    results = []
    for (model, adapt, side), (floor, gain, loss) in skills.items():
        for limit in limits:
            for seed in seeds:
                rng = np.random.default_rng([seed, limit, side, len(model)])
                own = rng.normal(0, 0.01)
                confusions = {}
                for condition in conditions:
                    lost = loss * np.log2(1 + condition.sigma) * (1 if condition.kind == "post" else 0.7)
                    if condition.is_fault:
                        lost = 2 * loss * condition.sigma / condition.most
                    right = (1 - floor - gain * (limit / 256) ** -0.5 - lost - hardness + own).clip(0.05, 0.99)
                    confusions[condition] = _answers(rng, true, np.broadcast_to(right, true.shape))
                stored = _record(_config(data, model, adapt, side, limit, seed), loss)
                stored["metrics"] = _metrics(confusions)
                if adapt == "scratch":
                    stored["history"] = _history(stored["metrics"][0]["macro_f1"])
                run = stored["run"]
                names = tuple(f"specimen {i:02}" for i in range(specimens))
                results.append(RunResult(run, parse_record(stored, run), names, confusions, compress(stored)))
    return results


def restated(run: RunResult, **facts: Any) -> RunResult:
    """The run with other facts in its record, as if they had been stored so; None takes a fact out."""
    stored = {key: value for key, value in (run.stored | facts).items() if key not in facts or value is not None}
    return replace(run, record=parse_record(stored, run.run), compressed=compress(stored))


def on_cohort(results: list[RunResult], name: str = "far", specimens: int = 8) -> list[RunResult]:
    """The runs, evaluated on an external cohort too, where every model scores less."""
    true = np.random.default_rng(1).multinomial(np.full(specimens, 40), [0.5, 0.35, 0.15])
    evaluated = []
    for number, run in enumerate(results):
        whole = scores_module.class_counts(run.confusions[CLEAN].sum(axis=0))
        right = np.full(true.shape, max(0.05, float(scores_module.accuracy(whole)) - 0.1))
        confusions = {CLEAN: _answers(np.random.default_rng(number), true, right)}
        cohort = {
            "name": name,
            "fingerprint": "far",
            "synthetic": True,
            "file": "cohort-1.parquet",
            "specimens": specimens,
        }
        cohort |= {"class_map": {"epithel": CLASSES[1], "mud": None}, "left_out": {"mud": 3}, "equal_crops": 0}
        facts = {"cohorts": [cohort | {"metrics": _metrics(confusions)}]}
        facts["files"] = run.stored.get("files", {}) | {"cohort-1.parquet": "0"}
        found = CohortResult(tuple(f"far {i}" for i in range(specimens)), confusions)
        evaluated.append(replace(restated(run, **facts), cohorts={name: found}))
    return evaluated


def cells_of(run: RunResult) -> StoredRun:
    """What the folder of a run would hold: its cells under each condition, right ones surer; validation as test."""
    rng = np.random.default_rng(0)
    found = {}
    for condition, confusions in run.confusions.items():
        specimen, label, predicted = (np.repeat(index, confusions[confusions > 0]) for index in np.nonzero(confusions))
        n = len(label)
        sure = rng.uniform(0.4, 1, n) ** np.where(label == predicted, 0.5, 1)
        probabilities = np.full((n, len(CLASSES)), ((1 - sure) / (len(CLASSES) - 1))[:, None])
        probabilities[np.arange(n), predicted] = sure
        rows = pd.DataFrame({"cell_id": np.arange(n).astype(str), "specimen": np.array(run.specimens)[specimen]})
        found[condition] = Predictions(rows, label, probabilities)
    stored = StoredRun(Path(run.run), run.record, run.stored)
    vars(stored).update(predictions=found, validation={CLEAN: found[CLEAN]})
    return stored


def in_folders(results: Sequence[RunResult], root: Path = Path("simulated")) -> list[RunResult]:
    """The runs, each as if it lay in a folder, whose cells `cells_of` gives in place of `cells._opened`."""
    audit = {"by": "specimen", "val_limit": 9999, "train_available": {}}
    placed = []
    for run in results:
        counts = run.stored["counts"] | {"validation": dict.fromkeys(CLASSES, 9)}
        files = run.stored.get("files", {}) | {VALIDATION: "0"}
        placed.append(replace(restated(run, audit=audit, counts=counts, files=files), folder=root / run.run))
    return placed


def pretraining_facts(
    seconds: float, embed_seconds: float = 0.0, threads: int = 1, device: str = "cpu"
) -> dict[str, Any]:
    """What a record states of a pretraining, as it is stored."""
    audit: dict[str, Any] = {"cells": 9, "specimens": 3, "equal_to_test_crops": 0, "near_test_crops": 0}
    audit |= {"cells_held_out": {}, "specimens_held_out": {}}
    cost: dict[str, Any] = {"updates": 5, "losses": [1.0], "seconds": seconds, "embed_seconds": embed_seconds}
    cost |= {"device": device, "threads": threads}
    return {"method": "mim", "fingerprint": "f", "entry": "e", "reused": True, "audit": audit, "cost": cost}


def with_config(run: RunResult, section: str, **values: Any) -> RunResult:
    """The run with other settings in a section of its config."""
    config = run.stored["config"]
    return restated(run, config=config | {section: config[section] | values})


def at_field(results: list[RunResult], field_um: float) -> list[RunResult]:
    """The runs as if their crops showed this field: other crops, so another fingerprint of the cells."""
    found = []
    for run in results:
        data = run.stored["data"] | {"fingerprint": f"field {field_um}"}
        stated = restated(with_config(run, "data", field_um=field_um), data=data)
        found.append(replace(stated, run=f"{run.run}-{field_um:g}"))
    return found


def _answers(rng: np.random.Generator, true: np.ndarray, right: np.ndarray) -> np.ndarray:
    n = true.shape[1]
    found = rng.binomial(true, right)
    counts = np.zeros((*true.shape, n), np.int64)
    for code in range(n):
        others = [other for other in range(n) if other != code]
        counts[:, code, others] = rng.multinomial(true[:, code] - found[:, code], np.full(n - 1, 1 / (n - 1)))
        counts[:, code, code] = found[:, code]
    return counts


def _metrics(confusions: dict[Condition, np.ndarray]) -> list[dict]:
    """Rows of a record; what no figure shows is a constant."""
    rows = []
    for condition, counts in confusions.items():
        confusion = counts.sum(axis=0)
        whole = scores_module.class_counts(confusion)
        scores = {"accuracy": scores_module.accuracy(whole), "macro_f1": scores_module.macro_f1(whole)}
        row = {"kind": condition.kind, "sigma": condition.sigma, "n_test": int(counts.sum()), "balanced_accuracy": 0.5}
        row |= {name: float(score) for name, score in scores.items()}
        row |= {"ece": 0.05 * (1 + condition.sigma), "ece_scaled": 0.03 * (1 + condition.sigma)}
        row |= dict.fromkeys(("mcc", "auroc", "nll", "brier", "nll_scaled", "brier_scaled"), 0.5)
        row["reliability"] = _reliability(row["accuracy"], row["n_test"])
        row |= {"accuracy_at_0.8": 0.5, "accuracy_at_0.9": 0.5, "confusion": confusion.tolist()}
        per_class = {
            name: {"n_test": int(n), "precision": 0.5, "recall": 0.5, "f1": 0.5}
            for name, n in zip(CLASSES, confusion.sum(axis=1), strict=True)
        }
        rows.append(row | {"per_class": per_class})
    return rows


def _history(macro_f1: float) -> list[dict[str, float]]:
    """Ten validations, of which the eighth is the best."""
    updates = range(300, 3001, 300)
    rows = [{"update": float(update), "val_macro_f1": macro_f1 * update / 2400} for update in updates if update <= 2400]
    rows += [{"update": float(update), "val_macro_f1": macro_f1 * 0.95} for update in updates if update > 2400]
    return [row | {"val_loss": 300 / row["update"], "train_loss": 200 / row["update"]} for row in rows]


def _reliability(accuracy: float, n: int) -> list[dict[str, float]]:
    """Two bins of confidence, which is 0.05 too high in both."""
    half = n // 2
    low, high = accuracy - 0.1, accuracy + 0.1 * half / (n - half)
    bins = ((half, low), (n - half, high))
    return [{"n": cells, "confidence": share + 0.05, "accuracy": share} for cells, share in bins]


def _config(data: str, model: str, adapt: str, side: int, limit: int, seed: int) -> dict[str, Any]:
    optics = {"via_px": 40, "resize": "bilinear", "train": None, "unit": "px40", "train_kind": ["pre", "post"]}
    shape = {"token_px": 8, "stem_width": 32, "dim": 128, "depth": 4, "heads": 4, "stem": "single"}
    return {
        "data": {"name": data, "split": {"test": 0.2}, "loading": {"store_dir": "nowhere"}},
        "model": {"name": model, "backbone": {"input_px": side} | (shape if model == "customvit" else {})},
        "adapt": {"name": adapt},
        "optics": optics,
        "flag_limit": limit,
        "seed": seed,
    }


def _record(config: dict[str, Any], loss: float) -> dict[str, Any]:
    model, adapt, side = config["model"]["name"], config["adapt"]["name"], config["model"]["backbone"]["input_px"]
    limit, seed = config["flag_limit"], config["seed"]
    mmac = 100.0 if adapt == "scratch" else 6000.0 * (side / 224) ** 2
    rows = [
        {"batch": batch, "ms": mmac / 40 / speed, "low": mmac / 45 / speed, "high": mmac / 35 / speed}
        | {"peak_mib": 90.0}
        for batch, speed in ((1, 1), (64, 3))
    ]
    hardware = {"processor": "simulated", "cores": 2, "threads": 1, "gpu": None}
    card = {"parameters": 1_000_000, "mmac": mmac, "device": "cpu", "clock_mhz": 2000.0, "engines": {"eager": rows}}
    features = {"specimen_accuracy": 0.2 + loss, "specimen_chance": 0.05, "n": 1835, "separability_chance": 0.5}
    return {
        "run": f"{model}-{adapt}-{limit}-{side}-s{seed}",
        "identity": "simulated",
        "cellpatch": "simulated",
        "config": config,
        "classes": list(CLASSES),
        "data": {"fingerprint": "simulated", "source": {"synthetic": True, "licence": "none"}},
        "weights": None,
        "training_code": {"number": 1, "fingerprint": "simulated"},
        "counts": {"train": {"stroma": limit, "epithelium": limit, CLASSES[2]: min(limit, 400)}},
        "temperature": 1.0,
        "seconds": {"train": mmac},
        "hardware": hardware,
        "latency": card | {"hardware": hardware},
        "features": features
        | {"separability": {"stroma": 0.8 - loss, "epithelium": 0.7 - loss}}
        | {
            "map": {"points": {"stroma": [[0.0, 0.0]], "epithelium": [[1.0, 2.0], [3.0, 1.0]]}, "explained": [0.6, 0.3]}
        },
    }
