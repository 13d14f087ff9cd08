"""Paired comparisons of models on the same test cells."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from cellpatch.analysis.estimates import difference, paired, simultaneous_intervals
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.hypothesis_tests import holm, permutation_p
from cellpatch.analysis.labels import by_label
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN

SWAPS = 20_000  # draws of a permutation test


def compare_with_best(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """How far each model is behind the best in macro-F1, at the flag_limit that most models have.

    One row a model but the best. `behind` has the 95 % interval `low` to `high`; `low_of_all` to `high_of_all` holds
    for all pairs of models at once. `p` is of a permutation test that swaps two models' specimens, `p_holm` the same
    after Holm's correction. `..._widespread` are the same numbers over the classes that lie in at least ten test
    specimens (WIDESPREAD). Raises ValueError if fewer than two models share the limit.
    """
    chosen = by_label(at_one_limit(groups), groups)
    scores = {label: group.estimate(CLEAN, macro_f1) for label, group in chosen.items()}
    best, *rest = sorted(chosen, key=lambda label: -scores[label].mean)
    if not rest:
        raise ValueError("a comparison needs two models at the same flag_limit")
    differences = [difference(scores[best], scores[label]) for label in rest]
    rows = []
    for label, behind, (low_of_all, high_of_all) in zip(
        rest, differences, simultaneous_intervals(differences), strict=True
    ):
        low, high = behind.interval()
        row = {"flag_limit": limit_of(chosen), "best": best, "model": label, "macro_f1": scores[label].mean}
        row |= {"behind": behind.mean, "low": low, "high": high, "seeds": len(behind.seeds)}
        row |= {"low_of_all": low_of_all, "high_of_all": high_of_all}
        of_best, of_model = (chosen[each].widespread_macro_f1 for each in (best, label))
        behind_widespread, low, high = difference(of_best, of_model).summary()
        row |= {"macro_f1_widespread": of_model.mean, "behind_widespread": behind_widespread}
        row |= {"low_widespread": low, "high_widespread": high}
        rows.append(row | {"p": _permutation_p(chosen[best], chosen[label])})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def _permutation_p(first: SeedGroup, second: SeedGroup) -> float:
    """p of no difference in macro-F1 on clean cells, of the seeds that both have."""
    of_first, of_second = paired([first.seeds, second.seeds])
    return permutation_p(_clean_counts(first, of_first), _clean_counts(second, of_second), macro_f1, SWAPS, seed=0)


def _clean_counts(group: SeedGroup, runs: Sequence[int]) -> Int[np.ndarray, "seeds specimens 3 classes"]:
    return class_counts(np.stack([group.runs[i].confusions[CLEAN] for i in runs]))
