"""What makes a ViT good on 40x40 cells and a few hundred of them? CustomViT with one thing changed at a time.

    python experiments/ablation.py data=endonuke data.root=DIR flag_limit=256 trainer.max_epochs=20 LAST
    python experiments/ablation.py data.split.val_limit=64 flag_limit=16 trainer.max_epochs=25 LAST    # synthetic
    python experiments/ablation.py                                                     # the table so far, as Markdown

LAST is +trainer.check_val_every_n_epoch= as many as there are epochs: the last epoch counts, and a training of two
minutes stays one. Three seeds each; a seed draws the annotated cells, the weights and the order. Each training adds a
line to experiments/ablation.csv and is not run again, so several processes can share the work (`--variants a,b`).
Choices are made on validation; test scores stand beside it to be read, not to be chosen by. The table gives means with
Student's 95 % interval over seeds, and the same for the difference to the whole model at equal seeds; docs/customvit.md
has it and says what it says. ablation_4px.csv holds an earlier, unfinished round around tokens of 4 px, in bf16-mixed.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from trial_log import TrialLog
from variants import VARIANTS

from cellpatch.analysis.bootstrap import student_half_width
from cellpatch.config.instantiate import build, without
from cellpatch.config.validate import check
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.figures.tables import to_markdown
from cellpatch.metrics.classification import score_predictions
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.optics.conditions import CLEAN
from cellpatch.training.fit import fit_by_gradients

LINES = TrialLog(Path(__file__).with_suffix(".csv"), ["data", "flag_limit", "epochs", "variant", "seed"])
SEEDS = (0, 1, 2)
SCORES = {"val_macro_f1": "validation", "val_to_whole": "less the whole", "test_macro_f1": "test"}


def run(variants: list[str], overrides: list[str]) -> None:
    """Train each variant with each seed and add its line."""
    jobs = (
        ({"variant": name, "seed": seed}, ["model=customvit", *overrides, *VARIANTS[name][1], f"seed={seed}"])
        for seed in SEEDS
        for name in variants
    )
    for key, config in LINES.lacking(jobs):
        plain = check(config)
        kind = VARIANTS[key["variant"]][0].__name__
        plain["model"]["backbone"]["_target_"] = f"variants.{kind}"  # after the check: ours, not a user's
        LINES.add(key | train_one(plain))


def train_one(plain: dict[str, Any]) -> dict[str, Any]:
    """Train and give what the line says: cost, validation and test scores."""
    backbone = build(plain["model"]["backbone"])
    study = open_dataset(plain, open_store(plain["data"]))
    schedule = build(without(plain["adapt"], "name"))
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit_by_gradients(plain, study, schedule, None, Path(folder), None)
    test = score_predictions(study.test_labels, fitted.predict([CLEAN], study.split.test)[CLEAN], study.classes, 1.0)
    return {
        "parameters": count_parameters(backbone),
        "mmac": round(count_macs(backbone) / 1e6),
        "n_train": len(study.split.train),
        "val_macro_f1": round(fitted.facts["val_macro_f1"], 4),
        "test_macro_f1": round(test["macro_f1"], 4),
        "seconds": round(fitted.seconds["train"]),
    }


def summarise(lines: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with half-widths of their intervals, and the difference to the whole model at equal seeds."""
    twice = lines[lines.duplicated([*LINES.keys[:-1]], keep=False)]
    if not twice.empty:
        raise ValueError(f"{LINES.file.name} has lines of several configs; keep one of each:\n{twice.to_string()}")
    rows = []
    by = ["data", "flag_limit", "epochs"]
    for place, group in lines.groupby(by):
        whole = group[group["variant"] == "whole"].set_index("seed")
        for name, runs in group.groupby("variant"):
            row: dict[str, Any] = dict(zip(by, place, strict=True)) | {"variant": name, "seeds": len(runs)}
            row |= {"mmac": runs["mmac"].iloc[0], "seconds": runs["seconds"].mean()}
            for score in ("val_macro_f1", "test_macro_f1"):
                row |= {score: runs[score].mean(), f"{score}_half": student_half_width(runs[score].to_numpy())}
            apart = (runs.set_index("seed")["val_macro_f1"] - whole["val_macro_f1"]).dropna()
            rows.append(
                row | {"val_to_whole": apart.mean(), "val_to_whole_half": student_half_width(np.asarray(apart))}
            )
    return pd.DataFrame(rows).sort_values([*by, "val_macro_f1"], ascending=[True, True, True, False])


def as_page(lines: pd.DataFrame) -> str:
    """Markdown: a table for each data set, limit and number of epochs, best validation score first."""
    parts = []
    for (data, limit, epochs), rows in summarise(lines).groupby(["data", "flag_limit", "epochs"]):
        shown = pd.DataFrame({"variant": rows["variant"], "M MACs": rows["mmac"]})
        for column, what in SCORES.items():
            sign = "+" if column == "val_to_whole" else ""
            pairs = zip(rows[column], rows[f"{column}_half"], strict=True)
            shown[what] = [
                f"{mean:{sign}.3f}{f' ± {half:.3f}' if half == half else ', 1 seed'}" for mean, half in pairs
            ]
        parts += [f"{data}, at most {limit} annotations per class, {epochs} epochs:", to_markdown(shown)]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python experiments/ablation.py", description="Ablate CustomViT.")
    parser.add_argument("overrides", nargs="*", help="as for train.py: data=... flag_limit=... trainer.max_epochs=...")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of these, by commas")
    options = parser.parse_args()
    unknown = sorted(set(options.variants.split(",")) - set(VARIANTS))
    if unknown:
        sys.exit(f"error: --variants must be of {list(VARIANTS)}, but got {unknown}")
    if options.overrides:
        run(options.variants.split(","), options.overrides)
    lines = LINES.read()
    if lines.empty:
        sys.exit("nothing has been run yet")
    try:
        print(as_page(lines))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
