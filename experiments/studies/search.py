"""Which recipe suits each model? The same candidates for all, one thing changed at a time, judged on validation cells.

    cellpatch train -m experiment=search data=endonuke data.root=DIR    # the runs; also data=chula, data=synthetic
    python experiments/studies/search.py runs/search                    # adds them to search.csv and prints the table
    python experiments/studies/search.py                                # the table so far

A candidate is what a run's settings change of its model's own, as conf has them when the run is added: once a default
changes, delete search.csv and add all runs again. A line of search.csv holds a run's highest validation macro-F1 and
the F1 of each class there, never a test score.

A candidate's gain is its score less that of the recipe as it is, at the same data, limit, model and seed. Gains of one
seed are averaged first; `±` is half of Student's 95 % interval over the seeds' means. A candidate is better only if its
whole interval is above zero. recipes.py is the search before this one: by epochs, with one seed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.analysis.bootstrap import student_half_width
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.figures.tables import to_markdown
from cellpatch.metrics.classification import confusion
from cellpatch.metrics.scores import class_counts, class_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.identity import IMPLICIT
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.json_types import Json

FILE = Path(__file__).with_suffix(".csv")
AS_IT_IS = "as it is"
PAIRED = ["data", "model", "adapt", "flag_limit", "updates", "seed"]  # runs that differ in their candidate alone
_LENGTH = ("updates", "min_epochs", "validations", "patience")  # of `adapt`: not a recipe


def candidate_of(config: Json) -> str:
    """What a run's settings of network, training and augmentation change of its model's own, as `adapt.lr=0.003`."""
    name, adapt = _part(config, "model")["name"], _part(config, "adapt")["name"]
    own = assemble(compose_config([f"model={name}", f"adapt={adapt}"])).settings.config
    changed = []
    for part in ("model.backbone", "adapt", "augment"):
        trained, now = _part(config, part), _part(own, part)
        for key in sorted({*trained, *now} - {*_LENGTH}):
            value, default = (each.get(key, _before(f"{part}.{key}")) for each in (trained, now))
            changed += [f"{part}.{key}={json.dumps(value)}".replace('"', "")] if value != default else []
    return " ".join(changed) or AS_IT_IS


def _before(key: str) -> Any:
    """The value that a run has which does not state a key, because its version had none."""
    return next(iter(IMPLICIT.get(key, ())), None)


def _part(config: Json, name: str) -> dict[str, Any]:
    part: Any = config
    for key in name.split("."):
        part = part[key]
    assert isinstance(part, dict)
    return part


def line_of(run: StoredRun) -> dict[str, str | int | float | None]:
    """The line of a training by gradients."""
    record, settings = run.record, run.record.settings
    validated = run.validation[CLEAN]
    counts = class_counts(confusion(validated.labels, validated.probabilities))
    return {
        "data": settings.data.name,
        "model": settings.model.name,
        "adapt": settings.adapt.name,
        "flag_limit": settings.flag_limit,
        "updates": _part(settings.config, "adapt")["updates"],
        "seed": settings.seed,
        "candidate": candidate_of(settings.config),
        "val_macro_f1": round(float(record.val_macro_f1 or 0), 4),
        "val_f1": " ".join(f"{float(class_f1(code)(counts)):.3f}" for code in range(len(record.classes))),
        "n_train": record.n_train,
        "best_update": record.best_update,
        "trained_updates": record.updates,
        "best_validation": record.best_validation,
        "seconds": round(record.seconds.train),
        "precision": record.precision,
        "run": record.identity,
    }


def read_lines() -> pd.DataFrame:
    """The lines so far; raises ValueError if two runs have one place."""
    if not FILE.exists():
        return pd.DataFrame(columns=[*PAIRED, "candidate", "run"])
    lines = pd.read_csv(FILE, keep_default_na=False, na_values={"best_validation": [""]})
    twice = lines[lines.duplicated([*PAIRED, "candidate"], keep=False)]
    if not twice.empty:
        raise ValueError(f"{FILE.name} has several runs of one candidate; keep one of each:\n{twice.to_string()}")
    return lines


def add_runs(folder: Path) -> int:
    """Add the runs of a folder that have no line yet; returns their number."""
    lines = read_lines()
    known = set(lines["run"])
    runs = (StoredRun.open(each) for each in finished_runs(folder))
    new = [line_of(run) for run in runs if run.record.history is not None and run.record.identity not in known]
    if new:
        joined = pd.concat([lines, pd.DataFrame(new)]) if known else pd.DataFrame(new)
        with atomic_write(FILE) as temporary:
            joined.sort_values([*PAIRED, "candidate"]).to_csv(temporary, index=False)
    return len(new)


def gains(lines: pd.DataFrame) -> pd.DataFrame:
    """Each line's `gain`: its score less that of the recipe as it is, where that was trained too."""
    own = lines[lines["candidate"] == AS_IT_IS].set_index(PAIRED)["val_macro_f1"].rename("own")
    paired = lines[lines["candidate"] != AS_IT_IS].join(own, on=PAIRED, how="inner")
    return paired.assign(gain=paired["val_macro_f1"] - paired["own"])


def summarise(lines: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean gain of each candidate within `by`, with half of its interval over seeds, and whether it is better.

    Student's interval assumes seeds that are drawn independently, and about normal means.
    """
    rows = []
    for place, group in gains(lines).groupby([*by, "candidate"]):
        of_seeds = group.groupby("seed")["gain"].mean().to_numpy()
        half = student_half_width(of_seeds)
        row = dict(zip([*by, "candidate"], place, strict=True))
        row |= {"runs": len(group), "seeds": len(of_seeds), "gain": of_seeds.mean(), "half": half}
        rows.append(row | {"better": bool(of_seeds.mean() - half > 0)})
    columns = [*by, "candidate", "runs", "seeds", "gain", "half", "better"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values([*by, "gain"], ascending=[True] * len(by) + [False])


def as_page(lines: pd.DataFrame) -> str:
    """Markdown: gains over all models and data, then by data, then by model; and how often the last was the best."""
    parts = []
    for by in (["adapt"], ["adapt", "data"], ["adapt", "model"]):
        table = summarise(lines, by)
        shown = table[[*by, "candidate", "runs", "seeds"]].copy()
        halves = [f" ± {half:.3f}" if np.isfinite(half) else ", 1 seed" for half in table["half"]]
        shown["gain"] = [f"{gain:+.3f}{half}" for gain, half in zip(table["gain"], halves, strict=True)]
        shown["better"] = ["yes" if better else "" for better in table["better"]]
        parts.append(to_markdown(shown))
    ends = (lines["best_validation"] == "last").sum()
    parts.append(f"{len(lines)} trainings; the best validation was the last one in {ends} of them.")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python experiments/studies/search.py", description="Compare recipes.")
    parser.add_argument("runs_dir", nargs="?", type=Path, help="a folder of runs to add")
    options = parser.parse_args()
    try:
        if options.runs_dir is not None:
            print(f"{add_runs(options.runs_dir)} runs added", file=sys.stderr)
        lines = read_lines()
    except ValueError as error:
        sys.exit(f"error: {error}")
    if lines.empty:
        sys.exit("nothing has been run yet")
    print(as_page(lines))


if __name__ == "__main__":
    main()
