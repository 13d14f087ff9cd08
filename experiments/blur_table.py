"""What does blur cost each run, before and after the resize? Scores, slopes and areas with intervals over specimens.

    python experiments/blur_table.py runs            # writes tables/blur-DATA.csv

Reads stored predictions alone. Intervals are 95 % percentiles of 2000 bootstrap draws of the test specimens, the same
draws for every run and condition, so that differences are paired. The slope is of the score against log2(1 + sigma),
the clean condition included (the study's degradation rate); `relative` is the slope over the clean score.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch import stats
from cellpatch.command import from_runs
from cellpatch.publish import replacing
from cellpatch.record import read_predictions, read_record

DRAWS = 2000
SCORES = {"accuracy": stats.accuracy, "macro_f1": stats.macro_f1}


def curves(run: Path) -> dict[str, tuple[list[float], np.ndarray, np.ndarray]]:
    """For each kind: rising sigmas from 0, confusion matrices [k, C, C], and those of the draws [draws, k, C, C]."""
    classes = read_record(run)["classes"]
    rows, probabilities = read_predictions(run)
    code = {name: i for i, name in enumerate(classes)}
    labels = rows["label"].astype(str).map(code).to_numpy()
    predicted = probabilities.argmax(axis=1)
    found = {}
    for kind in sorted(set(rows["kind"]) - {"none"}):
        sigmas = [0.0, *sorted(rows.loc[rows["kind"] == kind, "sigma"].unique())]
        whole, drawn = [], []
        for sigma in sigmas:
            here = ((rows["sigma"] == sigma) & (rows["kind"] == (kind if sigma else "none"))).to_numpy()
            specimens = rows["specimen"].to_numpy()[here]
            counts = stats.confusions_by_specimen(labels[here], predicted[here], specimens, len(classes))
            whole.append(counts.sum(axis=0))
            drawn.append(stats.resample(counts, stats.resamples(len(counts), DRAWS, seed=0)))
        found[kind] = (sigmas, np.stack(whole).astype(float), np.stack(drawn, axis=1))
    return found


def summarise(runs_dir: Path) -> pd.DataFrame:
    """One row per run, kind, score and what is told of it: a score at a sigma, a slope, a relative slope, an area."""
    lines: list[dict[str, Any]] = []
    for file in sorted(runs_dir.glob("[!.]*/record.json")):
        record = read_record(file.parent)
        config = record["config"]
        about = {key: config[key]["name"] for key in ("data", "model", "adapt")}
        about |= {"flag_limit": config["flag_limit"], "seed": config["seed"], "n_test": record["metrics"][0]["n_test"]}
        for kind, (sigmas, whole, drawn) in curves(file.parent).items():
            for name, score in SCORES.items():
                values, draws = score(whole), score(drawn)
                told = {f"sigma {sigma:g}": (values[i], draws[:, i]) for i, sigma in enumerate(sigmas)}
                told["slope"] = (stats.slope(sigmas, values), stats.slope(sigmas, draws))
                told["relative slope"] = (told["slope"][0] / values[0], told["slope"][1] / draws[:, 0])
                told["area"] = (stats.area(sigmas, values), stats.area(sigmas, draws))
                for what, (value, of_draws) in told.items():
                    low, high = stats.interval(of_draws)
                    about_this = {"kind": kind, "score": name, "what": what, "value": float(value)}
                    lines.append(about | about_this | {"low": low, "high": high, "run": file.parent.name})
    return pd.DataFrame(lines)


def write(runs_dir: Path, folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table of each data set; gives the files."""
    table = summarise(runs_dir)
    if table.empty:
        raise ValueError(f"{runs_dir} holds no run that was evaluated under blur: optics=blur evaluates one")
    files = []
    for data, of_data in table.groupby("data"):
        print(of_data.drop(columns=["run", "data"]).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        files.append(folder / f"blur-{data}.csv")
        with replacing(files[-1]) as temporary:
            of_data.to_csv(temporary, index=False)
    return files


if __name__ == "__main__":
    from_runs(write)
