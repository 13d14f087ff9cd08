"""Does an audit find labels that were flipped on purpose? Precision and recall of its list, and of its order.

    python experiments/studies/label_audit.py data=endonuke data.root=DIR --model model=colour flag_limit=1024

Takes the cells of any data source, gives a share of them another class, uniformly at random by a seed, writes crops and
a table, trains five folds on the flipped labels, and audits them. Where the set's own labels have errors too, what an
audit finds of these counts as false here: its precision is then a lower bound. Writes tables/label_audit.csv; what we
found is label_audit.csv beside this script.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import average_precision_score

from cellpatch.analysis.label_errors import find_label_errors
from cellpatch.analysis.out_of_sample import one_group, out_of_sample
from cellpatch.analysis.results import read_results
from cellpatch.analysis.run_result import RunResult
from cellpatch.config.assemble_data import assemble_data
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import open_store
from cellpatch.data.store.reader import CellStore
from cellpatch.figures.tables import write_table

FOLDS = 5
FIRST = (100, 500)  # cells from the top of the list


def write_crops(store: CellStore, folder: Path) -> None:
    """The store's crops as NUMBER.png, with their margin."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(store)):
        Image.fromarray(store.crops(np.array([index]))[0]).save(folder / f"{index}.png")


def flipped_table(store: CellStore, share: float, seed: int) -> pd.DataFrame:
    """A row a cell as data=table reads it, with the true class; a share of the cells have another class."""
    rng = np.random.default_rng(seed)
    n, classes = len(store), np.array(store.manifest.classes)
    flipped = rng.choice(n, round(share * n), replace=False)
    labels = store.labels.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, len(classes), len(flipped))) % len(classes)
    names = {"path": [f"crops/{i}.png" for i in range(n)], "class": classes[labels], "true": classes[store.labels]}
    return pd.DataFrame(names).assign(specimen=store.cells["specimen"].astype(str), cell_id=np.arange(n).astype(str))


def train_folds(table: Path, store: CellStore, model: Sequence[str], runs: Path) -> None:
    """Train a model on all folds of a table, as the command line does."""
    geometry = store.geometry
    words = ["data=table", f"data.table={table}", f"data.margin_px={geometry.margin_px}", "data.contradictions=keep"]
    words += [f"data.um_per_px={geometry.um_per_px or 'null'}", "data/split=kfold", f"data.split.folds={FOLDS}"]
    words += [f"data.split.fold=range({FOLDS})", "logger=none", f"runs_dir={runs}", *model]
    subprocess.run([sys.executable, "-m", "cellpatch", "train", "-m", *words], check=True)  # noqa: S603


def measure(results: Sequence[RunResult], table: pd.DataFrame) -> dict[str, float]:
    """How well the audit of all folds lists the cells whose class is not the true one."""
    tested = out_of_sample(one_group(results))
    cells = table.set_index("cell_id").loc[tested.cells["cell_id"]]
    flipped = (cells["class"] != cells["true"]).to_numpy()
    found = find_label_errors(tested.labels, tested.probabilities)
    order = np.argsort(found.quality, kind="stable")
    suggested = np.array(tested.classes)[found.suggested] == cells["true"]
    row = {"cells": len(cells), "flipped": flipped.sum(), "listed": found.likely.sum()}
    row |= {"precision": flipped[found.likely].mean(), "recall": found.likely[flipped].mean()}
    row |= {"average_precision": average_precision_score(flipped, -found.quality), "chance": flipped.mean()}
    row |= {f"precision_at_{n}": flipped[order[:n]].mean() for n in FIRST}
    return row | {"suggestion_is_true": suggested[flipped & found.likely].mean()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/label_audit.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", nargs="+", metavar="KEY=VALUE", help="settings of data, as for cellpatch train")
    parser.add_argument("--model", nargs="+", default=["model=colour"], metavar="KEY=VALUE", help="all other settings")
    parser.add_argument("--share", type=float, default=0.05, help="of the cells that get another class")
    parser.add_argument("--seeds", type=int, default=1, help="number of draws of these cells")
    parser.add_argument("--work", type=Path, default=Path("label_audit"), help="folder of crops, tables and runs")
    options = parser.parse_intermixed_args()
    store = open_store(assemble_data(compose_config(options.data)))
    write_crops(store, options.work / "crops")
    rows = []
    for seed in range(options.seeds):
        table = flipped_table(store, options.share, seed)
        file = options.work / f"flipped-{seed}.csv"
        table.to_csv(file, index=False)
        runs = options.work / f"runs-{seed}-{re.sub(r'[^-.=A-Za-z0-9]+', '_', '-'.join(options.model))}"
        train_folds(file, store, options.model, runs)
        rows.append({"model": " ".join(options.model), "seed": seed} | measure(read_results(runs), table))
    found = pd.DataFrame(rows)
    write_table(Path("tables/label_audit"), found, found.round(3))
    print(found.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
