"""Does a strategy of cellpatch next beat labelling at random? Labels of real cells, revealed in rounds.

    python experiments/studies/next_rounds.py data=endonuke data.root=DIR model=efficientnet_lite0 \\
        model.backbone.input_px=64          # writes tables/next_rounds-endonuke.csv
    python experiments/studies/next_rounds.py --draw tables/next_rounds-*.csv          # figures/next_rounds.png

The pool are the cells of the training specimens. Each study (a seed) begins with START of them, drawn at random, and
with VALIDATION cells drawn at random from the validation specimens, which choose the penalty of a logistic regression
on frozen features. Each round labels STEP more. All strategies of a seed begin with the same cells and are tested on
the same, all cells of the test specimens. Intervals are 95 %, over seeds and test specimens, of paired differences too.

Decided before the first study: a strategy beats random if its macro-F1, as a mean over all rounds after the first, is
ahead in a simultaneous 95 % interval (Bonferroni, over the strategies that need no label, in two data sets).
`class-balanced random` sees the labels of the pool: nobody can do it, it shows what balance is worth. `--only` compares
fewer strategies: next_rounds_again.csv has `diverse, spread` on another split (data.split.seed=1), chosen after the
first study and decided alone.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from next_ways import ORACLE, RANDOM, WAYS, Cells, Way
from simulated_study import estimates

from cellpatch.analysis.bootstrap import interval_of_mean
from cellpatch.analysis.estimates import combine, difference
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config, register
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.figures.palette import numbered_style
from cellpatch.figures.plotting import PAGE_MM, Drawing, add_title_and_legend, new_figure, save, styled
from cellpatch.inference.choose_cells import Candidates, choose_cells
from cellpatch.metrics.scores import confusions_by_specimen, macro_f1
from cellpatch.optics.conditions import CLEAN
from cellpatch.probing.probes import Probe
from cellpatch.runs.fits import cached_features
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.runtime.spreadsheet import csv_text

log = logging.getLogger(__name__)

START, STEP, LAST, VALIDATION, SEEDS, DRAWS = 128, 128, 1024, 256, 5, 2000
DATA_SETS = 2  # that the intervals are simultaneous over


@dataclass(frozen=True)
class Schedule:
    """Numbers of labels: at first, more in each round, at last, and of validation."""

    start: int = START
    step: int = STEP
    last: int = LAST
    validation: int = VALIDATION

    @property
    def labels(self) -> list[int]:
        return list(range(self.start, self.last + 1, self.step))


def label_in_rounds(
    cells: Cells, way: Way, probe: Probe, schedule: Schedule, seed: int
) -> Int[np.ndarray, "rounds specimens classes classes"]:
    """Confusion matrices of the test specimens after each round."""
    start, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    labelled = start.permutation(cells.pool)[: schedule.start]
    validation = start.permutation(cells.validation)[: schedule.validation]
    confusions = []
    while True:
        head = probe.fit(_part(cells, labelled), _part(cells, validation), cells.classes).head
        predicted = _predict(head, cells.features[cells.test]).argmax(axis=1)
        of_test = (cells.labels[cells.test], predicted, cells.specimens[cells.test])
        confusions.append(confusions_by_specimen(*of_test, cells.classes))
        if len(labelled) >= schedule.last:
            return np.stack(confusions)
        rest = np.setdiff1d(cells.pool, labelled)
        probabilities = _predict(head, cells.features[rest])
        candidates = Candidates(rest, cells.specimens[rest], probabilities, cells.features[rest])
        chosen = choose_cells(candidates, way.make(cells, labelled, rest), schedule.step, rng, way.spread)
        labelled = np.concatenate([labelled, rest[chosen]])


def _part(cells: Cells, rows: Int[np.ndarray, " k"]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(cells.features[rows]), torch.from_numpy(cells.labels[rows])


@torch.no_grad()
def _predict(head: torch.nn.Module, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n classes"]:
    return head(torch.from_numpy(features)).softmax(dim=1).numpy()


def summarise(
    data: str,
    confusions: Mapping[str, Int[np.ndarray, "seeds rounds specimens classes classes"]],
    labels: Sequence[int],
) -> pd.DataFrame:
    """A row a strategy and number of labels, and one (labels empty) of the mean over the rounds after the first."""
    names = list(confusions)
    rounds = np.stack([confusions[name] for name in names]).swapaxes(1, 2)  # [ways, rounds, seeds, ...]
    each = estimates(rounds.reshape(-1, *rounds.shape[2:]), macro_f1, DRAWS, 0)
    scores = {name: each[i * len(labels) : (i + 1) * len(labels)] for i, name in enumerate(names)}
    means = {name: combine(lambda x: x.mean(axis=-1), of[1:]) for name, of in scores.items()}
    candidates = [name for name in names if name != RANDOM and not WAYS[name].needs_labels]
    level = 1 - 0.05 / (DATA_SETS * max(1, len(candidates)))
    rows = []
    for name in names:
        for at, score, reference in [
            *zip(labels, scores[name], scores[RANDOM], strict=True),
            (None, means[name], means[RANDOM]),
        ]:
            row: dict[str, Any] = {
                "data": data,
                "strategy": name,
                "labels": at,
                "needs_labels": WAYS[name].needs_labels,
            }
            row |= dict(zip(("macro_f1", "low", "high"), score.summary(), strict=True))
            lead = difference(score, reference)
            row |= dict(zip(("ahead", "ahead_low", "ahead_high"), lead.summary(), strict=True))
            if at is None and name in candidates:
                ends = interval_of_mean(lead.values, lead.draws.mean(axis=1), lead.without.mean(axis=1), level)
                row |= dict(zip(("simultaneous_low", "simultaneous_high"), ends, strict=True))
            rows.append(row | {f"seed_{seed}": value for seed, value in enumerate(score.values)})
    table = pd.DataFrame(rows)
    return table.assign(labels=table["labels"].astype("Int64"))


def study(settings: Sequence[str], schedule: Schedule, seeds: int, ways: Mapping[str, Way]) -> pd.DataFrame:
    """The table of one data set, whose config is that of a training of a probe; raises ValueError for another."""
    register()
    experiment = assemble(compose_config(prepare_overrides(["data.split.val_limit=1000000", *settings])))
    if not isinstance(experiment.adaptation, Probe):
        raise ValueError("adapt must be a probe")
    store = open_store(experiment.data)
    dataset = open_dataset(store, experiment.data.split, len(store), 0)
    features = cached_features(experiment, experiment.model.weights_fingerprint(), dataset)
    split, specimens = dataset.split, store.cells["specimen"].astype(str).to_numpy()
    every = np.array(features(CLEAN, np.arange(len(store))), np.float32)
    cells = Cells(every, dataset.labels, specimens, split.train, split.validation, split.test, len(dataset.classes))
    confusions = {}
    for name, way in ways.items():
        confusions[name] = np.stack(
            [label_in_rounds(cells, way, experiment.adaptation, schedule, seed) for seed in range(seeds)]
        )
        log.warning("%s: %s", experiment.data.name, name)
    return summarise(experiment.data.name, confusions, schedule.labels)


SHOWN = [RANDOM, ORACLE, "random, spread", "margin, spread", "entropy, spread", "diverse, spread"]


@styled
def draw(table: pd.DataFrame) -> Drawing:
    """Macro-F1 over labels above, and what each strategy is ahead of random below; a column a data set."""
    names = list(dict.fromkeys(table["data"]))
    figure, axes = new_figure(PAGE_MM, 110, rows=2, columns=len(names), sharex=True, sharey="row")
    for column, data in enumerate(names):
        above, below = axes[column], axes[column + len(names)]
        of_data = table[(table["data"] == data) & table["labels"].notna()]
        for number, name in enumerate(SHOWN):
            rows = of_data[of_data["strategy"] == name]
            if rows.empty:
                continue
            labels = rows["labels"].to_numpy(float)
            look: dict[str, Any] = numbered_style(number).marker_properties() | {"markersize": 4, "linewidth": 1.0}
            above.plot(labels, rows["macro_f1"], label=name, **look)
            if name != RANDOM:
                later = rows[rows["labels"] > labels[0]]
                at = labels[1:] + (number - len(SHOWN) / 2) * DODGE
                below.plot(at, later["ahead"], **look)
                color = numbered_style(number).color
                below.vlines(at, later["ahead_low"], later["ahead_high"], color=color, linewidth=0.8, alpha=0.6)
        above.set_title(data)
        below.axhline(0, color="0.4", linewidth=0.6, zorder=0)
        below.set_xlabel("training labels")
    axes[0].set_ylabel("macro-F1, test")
    axes[len(names)].set_ylabel("ahead of random")
    add_title_and_legend(figure, "Labels revealed in rounds")
    caption = (
        "Labels revealed in rounds: a logistic regression on frozen features, five seeds. Below, the difference from "
        "random at equal numbers of labels, with 95 % intervals over seeds and test specimens, each by itself. "
        "Class-balanced random sees the labels and is no strategy that one could follow."
    )
    return Drawing("next_rounds", figure, caption)


DODGE = 12  # labels between the marks of two strategies


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/next_rounds.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="as of cellpatch train, of a probe")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="STRATEGY")
    parser.add_argument("--draw", type=Path, nargs="+", metavar="CSV", help="draw these tables, and run no study")
    options = parser.parse_intermixed_args()
    if options.draw:
        for file in save(draw(pd.concat([pd.read_csv(file) for file in options.draw], ignore_index=True))):
            print(file)
        return
    torch.set_num_threads(1)
    table = study(options.settings, Schedule(), options.seeds, {name: WAYS[name] for name in [RANDOM, *options.only]})
    file = Path("tables") / f"next_rounds-{table['data'].iloc[0]}.csv"
    with atomic_write(file) as temporary:
        temporary.write_text(csv_text(table), encoding="utf-8")
    print(table[table["labels"].isna()].drop(columns=["data", "labels"]).to_string(index=False))
    print(file)


if __name__ == "__main__":
    main()
