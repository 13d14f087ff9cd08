"""Labelled cells with probabilities of networks that were not trained on them: a group's test cells, of all folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.analysis.groups import SeedGroup, group_by_seed
from cellpatch.analysis.label_errors import with_prior
from cellpatch.analysis.run_result import RunResult
from cellpatch.runs.stored_run import StoredRun

_SHOWN = 8  # groups in an error


@dataclass(frozen=True, eq=False)
class OutOfSample:
    """Test cells of a group's runs, each once: id and specimen, label as class index, mean probabilities over seeds.

    Probabilities presume the class frequencies of these labels, where a record states which its own presume: after
    training on at most flag_limit cells of each class, a network expects rare classes too often. `training` is the
    index in `trainings` of the run that tested the cell with the first seed.
    """

    group: SeedGroup
    classes: tuple[str, ...]
    cells: pd.DataFrame  # cell_id, specimen
    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]
    training: Int[np.ndarray, " n"]
    trainings: tuple[StoredRun, ...]


def one_group(results: Sequence[RunResult]) -> SeedGroup:
    """The only group of the runs, their folds pooled; raises ValueError that lists the groups if there are several."""
    groups = group_by_seed(results)
    if len(groups) > 1:
        shown = "\n  ".join(map(_choice, groups[:_SHOWN])) + ("\n  ..." if len(groups) > _SHOWN else "")
        raise ValueError(f"an audit takes the runs of one model at one limit. Choose one, such as\n  {shown}")
    return groups[0]


def _choice(group: SeedGroup) -> str:
    """The options that choose a group, and what else it is."""
    at = group.coordinates
    options = f"--models {at.model} --adapt {quote(at.adapt)} --limit {at.flag_limit}"
    return f"{options} ({at.data}, {at.input_px} px, {at.optics})"


def out_of_sample(group: SeedGroup) -> OutOfSample:
    """The test cells of a group on clean crops; raises ValueError for packed runs, and runs that cannot be read."""
    by_seed = [_one_seed([_open(each) for each in run.trainings]) for run in group.runs]
    first = by_seed[0]
    mean = np.zeros_like(first.probabilities)
    for each in by_seed:
        position = pd.Index(each.cells["cell_id"]).get_indexer(first.cells["cell_id"])
        assert (position >= 0).all(), "the runs of a group have the same test cells"
        mean += each.probabilities[position] / len(by_seed)
    opened = tuple(first.runs)
    training = np.repeat(np.arange(len(opened)), first.counts)
    return OutOfSample(group, tuple(opened[0].record.classes), first.cells, first.labels, mean, training, opened)


class _OneSeed(NamedTuple):
    """The runs of one seed, the number of cells of each, and these cells."""

    runs: list[StoredRun]
    counts: list[int]
    cells: pd.DataFrame
    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n classes"]


def _one_seed(runs: list[StoredRun]) -> _OneSeed:
    found = [run.clean_predictions for run in runs]
    cells = pd.concat([each.rows for each in found], ignore_index=True)[["cell_id", "specimen"]].astype(str)
    labels = np.concatenate([each.labels for each in found])
    frequencies = np.bincount(labels, minlength=len(runs[0].record.classes)) / len(labels)
    parts = []
    for run, each in zip(runs, found, strict=True):
        stated, probabilities = run.record.prior, each.probabilities.astype(np.float64)
        presumed = frequencies if stated is None else np.array(stated.presumed)
        parts.append(with_prior(probabilities, presumed, frequencies))
    return _OneSeed(runs, [len(each.labels) for each in found], cells, labels, np.concatenate(parts))


def _open(run: RunResult) -> StoredRun:
    if run.folder is None:
        raise ValueError(f"{run.run} is packed, without its cells: name the folders of the runs")
    return StoredRun.open(run.folder)
