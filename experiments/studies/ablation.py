"""What makes a ViT good on 40x40 cells and a few hundred of them? CustomViT with one thing changed at a time.

    ABLATION=experiments/studies/ablation.py
    python $ABLATION data=endonuke data.root=DIR flag_limit=256 trainer.max_epochs=20 LAST
    python $ABLATION data.split.val_limit=64 flag_limit=16 trainer.max_epochs=25 LAST    # synthetic
    python $ABLATION                                                     # the table so far, as Markdown

LAST is +trainer.check_val_every_n_epoch= the number of epochs: the last epoch counts, and a training takes two minutes.
Three seeds each; a seed draws the annotated cells, the weights and the order. Each training adds a line to
ablation.csv beside this file and is not run again, so several processes can share the work (`--variants a,b`).
Validation scores decide; test scores stand beside them to be read. The table gives means with Student's 95 % interval
over seeds, and the same for the difference to the whole model at equal seeds; docs/customvit.md has it and explains
it. ablation_4px.csv holds an earlier, unfinished round around tokens of 4 px, in bf16-mixed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from trial_log import Line, TrialLog
from variants import VARIANTS

from cellpatch.analysis.bootstrap import student_half_width
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.assemble import assemble
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.figures.tables import to_markdown
from cellpatch.metrics.classification import score_predictions
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.models.customvit import CustomViT
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.fits import gradient_fit

LINES = TrialLog(Path(__file__).with_suffix(".csv"), ["data", "flag_limit", "epochs", "variant", "seed"])
# The shape and the recipe that the lines are of.
SHAPE = ["model=customvit_s", "model.backbone.stem=single", "model.backbone.dim=128", "model.backbone.depth=4"]
SHAPE += ["model.backbone.heads=4", "model.recipe.lr=3.0e-4", "adapt.optimizer=adamw"]
SEEDS = (0, 1, 2)
SCORES = {"val_macro_f1": "validation", "val_to_whole": "less the whole", "test_macro_f1": "test"}


def run(variants: list[str], overrides: list[str]) -> None:
    """Train each variant with each seed and add its line."""
    jobs: Iterator[tuple[Line, list[str]]] = (
        ({"variant": name, "seed": seed}, [*SHAPE, *overrides, *VARIANTS[name][1], f"seed={seed}"])
        for seed in SEEDS
        for name in variants
    )
    for key, config in LINES.missing(jobs):
        LINES.add(key | train_variant(assemble(config), VARIANTS[str(key["variant"])][0]))


def train_variant(experiment: Experiment, variant: type[CustomViT]) -> Line:
    """Train a variant of CustomViT and give its line: cost, validation and test scores."""
    experiment = replace(experiment, model=replace(experiment.model, backbone_class=variant))
    backbone = experiment.model.create()
    dataset = open_dataset(open_store(experiment.data), experiment.data.split, experiment.flag_limit, experiment.seed)
    with tempfile.TemporaryDirectory() as folder:
        fit = gradient_fit(experiment, None, dataset).run(Path(folder))
    probabilities = fit.predict([CLEAN], dataset.split.test)[CLEAN]
    test = score_predictions(dataset.test_labels, probabilities, dataset.classes, 1.0)
    return {
        "parameters": count_parameters(backbone),
        "mmac": round(count_macs(backbone) / 1e6),
        "n_train": len(dataset.split.train),
        "val_macro_f1": round(fit.facts.val_macro_f1, 4),
        "test_macro_f1": round(test.macro_f1, 4),
        "seconds": round(fit.train_seconds),
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
    parser = argparse.ArgumentParser(prog="python experiments/studies/ablation.py", description="Ablate CustomViT.")
    parser.add_argument("overrides", nargs="*", help="as for train.py: data=... flag_limit=... trainer.max_epochs=...")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of these, by commas")
    options = parser.parse_args()
    unknown = sorted(set(options.variants.split(",")) - set(VARIANTS))
    if unknown:
        sys.exit(f"error: --variants must be of {list(VARIANTS)}, but got {unknown}")
    try:
        if options.overrides:
            run(options.variants.split(","), prepare_overrides(options.overrides))
    except ValueError as error:
        sys.exit(f"error: {error}")
    lines = LINES.read()
    if lines.empty:
        sys.exit("nothing has been run yet")
    try:
        print(as_page(lines))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
