"""What a model must beat to be of use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellpatch.analysis.estimates import Estimate
from cellpatch.analysis.groups import SeedGroup
from cellpatch.metrics.scores import Score
from cellpatch.optics.conditions import CLEAN

COLOUR = "colour"  # conf/model/colour.yaml: a probe on mean and spread of colour


@dataclass(frozen=True)
class Baseline:
    """A rule that needs no training, and its score."""

    label: str
    score: Estimate


def largest_class(groups: Sequence[SeedGroup], score: Score) -> Baseline:
    """Always naming the class with the most test cells: no blur changes it.

    Its score has the seeds of all `groups`, which share their test cells, so that it can be paired with each.
    """
    run = groups[0].runs[0]
    true = run.confusions[CLEAN].sum(axis=2)
    code = int(true.sum(axis=0).argmax())
    named = np.zeros_like(run.confusions[CLEAN])
    named[:, :, code] = true
    alone = replace(groups[0], runs=(replace(run, confusions={CLEAN: named}),)).estimate(CLEAN, score)
    seeds = tuple(sorted({seed for group in groups for seed in group.seeds}))
    columns = [0] * len(seeds)
    repeated = Estimate(alone.values[columns], alone.draws[:, columns], alone.without[:, columns], seeds, alone.bounds)
    return Baseline(f"always {run.record.classes[code]}", repeated)
