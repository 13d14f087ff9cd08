"""Paired comparisons of models on the same test cells."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.best_set import best_set
from cellpatch.analysis.estimates import difference
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.labels import by_label
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


def compare_with_best(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """How far each model is behind the best in macro-F1, at the flag_limit that most models have.

    One row a model but the best, then one of always naming the largest class, which is not among the compared models:
    its `at_least` is NaN. `behind` has the 95 % interval `low` to `high`, of this difference alone. `at_least` is how
    far the model is surely behind another one, among all that are compared (`best_set`): above 0 it is significantly
    behind; NaN if every model has one seed. `..._widespread` are the same numbers over the classes that lie in at least
    ten test specimens (WIDESPREAD). Raises ValueError if fewer than two models share the limit.
    """
    chosen = by_label(at_one_limit(groups), groups)
    if len(chosen) < 2:
        raise ValueError("a comparison needs two models at the same flag_limit")
    scores = {label: group.estimate(CLEAN, macro_f1) for label, group in chosen.items()}
    widespread = {label: group.widespread_macro_f1 for label, group in chosen.items()}
    at_least = best_set(scores).at_least
    best, *rest = sorted(chosen, key=lambda label: -scores[label].mean)
    compared = list(chosen.values())
    rule = largest_class(compared, macro_f1)
    scores[rule.label] = rule.score
    widespread[rule.label] = largest_class(compared, compared[0].widespread_score).score
    rows = []
    for label in [*rest, rule.label]:
        behind = difference(scores[best], scores[label])
        low, high = behind.interval()
        row = {"flag_limit": limit_of(chosen), "best": best, "model": label, "macro_f1": scores[label].mean}
        row |= {"behind": behind.mean, "low": low, "high": high, "seeds": len(behind.seeds)}
        row["at_least"] = at_least.get(label, np.nan)
        of_best, of_model = widespread[best], widespread[label]
        behind_widespread, low, high = difference(of_best, of_model).summary()
        row |= {"macro_f1_widespread": of_model.mean, "behind_widespread": behind_widespread}
        rows.append(row | {"low_widespread": low, "high_widespread": high})
    return pd.DataFrame(rows)
