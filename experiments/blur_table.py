"""What does blur cost each run, before and after the resize? Scores, slopes and areas with intervals over specimens.

    python experiments/blur_table.py runs            # writes tables/blur-DATA.csv and tables/leads-DATA.csv

Reads stored predictions alone. Intervals are 95 % percentiles of 2000 bootstrap draws of the test specimens, the same
draws for every run and condition, so that differences are paired. The slope is of the score against log2(1 + sigma),
the clean condition included (the study's degradation rate), and of sigma as it is called: `sampled` is how wide a
blur is on the pixels that it meets. `relative` is the slope over the clean score. A draw that lacks a class is drawn
again, `redrawn` is their share; a single specimen has no interval. The second table says at which sigma the better
of two runs on clean cells stops being the better one, of the sigmas that both have.
"""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch import stats
from cellpatch.command import from_runs
from cellpatch.conditions import CLEAN, Condition
from cellpatch.publish import replacing
from cellpatch.record import predictions_by_condition, read_record

DRAWS = 2000
SCORES = {"accuracy": stats.accuracy, "macro_f1": stats.macro_f1}


def curves(run: Path) -> dict[str, tuple[list[float], np.ndarray, np.ndarray, dict[str, Any]]]:
    """For each kind: rising sigmas from 0, confusion matrices [k, C, C], those of the draws [draws, k, C, C], facts."""
    stored = predictions_by_condition(run)
    found = {}
    for kind in sorted({condition.kind for condition in stored} - {"none"}):
        sigmas = [0.0, *sorted(condition.sigma for condition in stored if condition.kind == kind)]
        whole, drawn, facts = [], [], {}
        for sigma in sigmas:
            rows, labels, probabilities = stored[Condition(kind, sigma) if sigma else CLEAN]
            specimens = rows["specimen"].to_numpy()
            n_classes = probabilities.shape[1]
            counts = stats.confusions_by_specimen(labels, probabilities.argmax(axis=1), specimens, n_classes)
            whole.append(counts.sum(axis=0))
            times, redrawn = stats.resamples(counts, DRAWS, seed=0)
            drawn.append(stats.resample(counts, times))
            facts = {"specimens": len(counts), "redrawn": redrawn}
        found[kind] = (sigmas, np.stack(whole).astype(float), np.stack(drawn, axis=1), facts)
    return found


def read_runs(runs_dir: Path) -> list[dict[str, Any]]:
    """Runs that were evaluated under blur: what they are, and `curves`: scores and their draws by (kind, score)."""
    found = []
    for file in sorted(runs_dir.glob("[!.]*/record.json")):
        record = read_record(file.parent)
        config = record["config"]
        about = {key: config[key]["name"] for key in ("data", "model", "adapt")}
        about |= {"input_px": config["model"]["backbone"]["input_px"], "flag_limit": config["flag_limit"]}
        about |= {"seed": config["seed"], "n_test": record["metrics"][0]["n_test"], "run": file.parent.name}
        by_kind = curves(file.parent)
        by_score = {
            (kind, name): (sigmas, score(whole), score(drawn))
            for kind, (sigmas, whole, drawn, _) in by_kind.items()
            for name, score in SCORES.items()
        }
        if by_score:
            cells = (record["data"]["fingerprint"], json.dumps(config["data"]["split"]))
            sampled = {(row["kind"], row["sigma"]): row["sampled_sigma"] for row in record["metrics"]}
            facts = {kind: facts for kind, (_, _, _, facts) in by_kind.items()}
            found.append({"about": about, "cells": cells, "curves": by_score, "facts": facts, "sampled": sampled})
    if not found:
        raise ValueError(f"{runs_dir} holds no run that was evaluated under blur: optics=blur evaluates one")
    return found


def summarise(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per run, kind, score and what is told of it: a score at a sigma, a slope, a relative slope, an area."""
    lines: list[dict[str, Any]] = []
    for run in runs:
        for (kind, name), (sigmas, values, draws) in run["curves"].items():
            told = {f"sigma {sigma:g}": (values[i], draws[:, i]) for i, sigma in enumerate(sigmas)}
            told["slope"] = (stats.slope(sigmas, values), stats.slope(sigmas, draws))
            told["relative slope"] = tuple(
                np.divide(slope, clean, out=np.full(np.shape(slope), np.nan), where=clean > 0)
                for slope, clean in zip(told["slope"], (values[0], draws[:, 0]), strict=True)
            )
            told["area"] = (stats.area(sigmas, values), stats.area(sigmas, draws))
            sampled = {f"sigma {sigma:g}": run["sampled"].get((kind, sigma), 0.0) for sigma in sigmas}
            for what, (value, of_draws) in told.items():
                low, high = stats.interval(of_draws) if run["facts"][kind]["specimens"] > 1 else (np.nan, np.nan)
                row = {"kind": kind, "score": name, "what": what, "sampled": sampled.get(what, np.nan)}
                row |= {"value": float(value), "low": low, "high": high} | run["facts"][kind]
                lines.append(run["about"] | row)
    return pd.DataFrame(lines)


def leads(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """For each two runs on the same cells, the sigma at which the one that leads on clean cells stops leading.

    `inf` is a lead that holds at the largest sigma. Draws are paired: the interval is of the same specimens.
    """
    lines = []
    for one, other in combinations(runs, 2):
        same = all(one["about"][key] == other["about"][key] for key in ("flag_limit", "seed"))
        if not same or one["cells"] != other["cells"]:
            continue
        for key in one["curves"].keys() & other["curves"].keys():
            both = [run["curves"][key] for run in (one, other)]
            sigmas = sorted(set(both[0][0]) & set(both[1][0]))
            if len(sigmas) < 2:
                continue
            places = [[of[0].index(sigma) for sigma in sigmas] for of in both]
            (values, draws), (others, of_others) = (
                (of[1][place], of[2][:, place]) for of, place in zip(both, places, strict=True)
            )
            apart, of_draws = values - others, draws - of_others
            ahead, behind = (one, other) if apart[0] >= 0 else (other, one)
            sign = 1 if ahead is one else -1
            ends = np.array([stats.lead_ends(sigmas, sign * draw) for draw in of_draws])
            low, high = np.quantile(ends, [0.025, 0.975], method="nearest")
            about = {key: one["about"][key] for key in ("data", "flag_limit", "seed")}
            about |= {"ahead": _name(ahead), "behind": _name(behind), "kind": key[0], "score": key[1]}
            lines.append(about | {"ends": stats.lead_ends(sigmas, sign * apart), "low": low, "high": high})
    columns = ["data", "flag_limit", "seed", "kind", "score", "ahead", "behind", "ends", "low", "high"]
    return pd.DataFrame(lines, columns=columns).sort_values(columns[:7], ignore_index=True)


def _name(run: dict[str, Any]) -> str:
    about = run["about"]
    return about["model"] if about["adapt"] == "scratch" else f"{about['model']}, {about['adapt']}"


def write(runs_dir: Path, folder: Path = Path("tables")) -> list[Path]:
    """Print and write both tables of each data set; gives the files."""
    runs, files = read_runs(runs_dir), []
    for name, table in (("blur", summarise(runs)), ("leads", leads(runs))):
        for data, of_data in table.groupby("data"):
            shown = of_data.drop(columns=["run", "data"], errors="ignore")
            print(shown.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
            files.append(folder / f"{name}-{data}.csv")
            with replacing(files[-1]) as temporary:
                of_data.to_csv(temporary, index=False)
    return files


if __name__ == "__main__":
    from_runs(write)
