"""Which recipe suits each model that is trained from scratch? The same candidates for all, chosen on validation.

    RECIPES=experiments/studies/recipes.py
    python $RECIPES data=endonuke data.root=DIR flag_limit=256 trainer.max_epochs=20
    python $RECIPES data.split.val_limit=64 flag_limit=64 trainer.max_epochs=20      # synthetic
    python $RECIPES                                                          # what is chosen so far

Each training adds a line to recipes.csv beside this file: the highest validation macro-F1 and its epoch, never a test
score. A candidate with a line is not trained again, so several processes can work on one list (`--models a,b` gives
each its own). The candidate with the highest mean over the data sets is chosen; conf/model holds it, and a test
checks it.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf
from trial_log import Line, TrialLog

from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config import schema
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.record import Record
from cellpatch.runs.stored_run import StoredRun
from cellpatch.sweeps.train import train

# Ours, around what is common for AdamW: the first is where we began, the others move several things at once.
CANDIDATES = pd.DataFrame(
    [
        (1.0e-3, 0.05, 0.1, 0.05, 0.1),
        (3.0e-3, 0.05, 0.1, 0.0, 0.1),
        (3.0e-4, 0.05, 0.1, 0.0, 0.1),
        (1.0e-3, 0.2, 0.2, 0.1, 0.2),
        (3.0e-3, 0.01, 0.2, 0.1, 0.2),
        (2.0e-3, 0.1, 0.05, 0.0, 0.05),
    ],
    columns=["lr", "weight_decay", "warmup", "drop_path", "stain_gain"],
)
LINES = TrialLog(Path(__file__).with_suffix(".csv"), ["data", "flag_limit", "epochs", "model", "candidate"])


def scratch_models() -> list[str]:
    """The models of conf/model that bring no weights."""
    return [name for name, pretrained in schema.models().items() if not pretrained]


def overrides_of(model: str, candidate: int) -> list[str]:
    """Hydra's overrides for one candidate; drop path only where the model has it. Offset goes with gain, half of it."""
    row = CANDIDATES.loc[candidate]
    chosen = [f"model={model}", *(f"model.recipe.{key}={row[key]}" for key in ("lr", "weight_decay", "warmup"))]
    chosen += [f"model.recipe.stain_gain={row.stain_gain}", f"model.recipe.stain_offset={row.stain_gain / 2}"]
    plain = OmegaConf.load(schema.CONF / "model" / f"{model}.yaml")
    for key in ("backbone.drop_path", "backbone.options.drop_path_rate"):
        if OmegaConf.select(plain, key) is not None:
            chosen.append(f"model.{key}={row.drop_path}")
    return chosen


def search(models: list[str], overrides: list[str]) -> None:
    """Train each model with each candidate and add its validation score."""
    jobs: Iterator[tuple[Line, list[str]]] = (
        ({"model": model, "candidate": candidate}, [*overrides, *overrides_of(model, candidate)])
        for candidate in CANDIDATES.index
        for model in models
    )
    for key, job in LINES.missing(jobs):
        with tempfile.TemporaryDirectory() as folder:
            job.runs_dir = folder
            train(job)
            [run] = finished_runs(Path(folder))
            LINES.add(line_of(key, StoredRun.open(run).record))


def line_of(key: Line, record: Record) -> Line:
    """The line of a training: the candidate, cells, best validation score, seconds."""
    assert record.val_macro_f1 is not None
    assert record.best_epoch is not None
    candidate = CANDIDATES.to_dict("index")[int(key["candidate"])]
    line = key | {str(name): float(value) for name, value in candidate.items()}
    line |= {f"n_{part}": sum(record.counts[part].values()) for part in ("train", "validation")}
    line |= {"val_macro_f1": round(record.val_macro_f1, 4), "best_epoch": record.best_epoch}
    return line | {"seconds": round(record.seconds.train)}


def choose(lines: pd.DataFrame) -> pd.DataFrame:
    """Mean validation macro-F1 per model (rows) and candidate (columns), over data sets that have every candidate.

    Raises ValueError if a candidate has lines of several configs.
    """
    by = ["model", "data", "flag_limit", "epochs", "candidate"]
    twice = lines[lines.duplicated(by, keep=False)]
    if not twice.empty:
        raise ValueError(f"{LINES.file.name} has lines of several configs; keep one of each:\n{twice.to_string()}")
    table = lines.pivot_table(index=by[:-1], columns="candidate", values="val_macro_f1")
    return table.dropna().groupby("model").mean()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/recipes.py", description="Search recipes on validation."
    )
    parser.add_argument("overrides", nargs="*", help="as for train.py: data=... flag_limit=... trainer.max_epochs=...")
    parser.add_argument("--models", default=",".join(scratch_models()), help="of these models, by commas")
    options = parser.parse_args()
    try:
        if options.overrides:
            search(options.models.split(","), prepare_overrides(options.overrides))
        means = choose(LINES.read())
    except ValueError as error:
        sys.exit(f"error: {error}")
    if means.empty:
        sys.exit("no data set has every candidate of a model yet")
    print(means.round(4).to_string())
    for model, candidate in means.idxmax(axis=1).items():
        print(f"{model}: candidate {candidate}, {CANDIDATES.loc[candidate].to_dict()}")


if __name__ == "__main__":
    main()
