"""How does macro-F1 grow with annotations, and from how many on does one model stay ahead of another?

    cellpatch tables runs scaling_table          # writes tables/scaling-DATA.* and tables/crossings-DATA.*

Fits 1 - macro-F1 = floor + gain (limit / first limit)^-exponent where the data support one, and states why not where
they do not; limits that no class has the training cells for are left out. The table of crossings has a row for each
pair of a model from scratch and a pretrained one: which is ahead at the largest limit that both have, and the
flag_limit from which on it stays so, linear in log2 between limits. `always` is from the first limit on, `never` (of an
end of the interval) not even at the largest. Intervals are 95 %, of draws over specimens and seeds (somewhat too wide).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.curves import (
    crossing_of_leader,
    learning_curves,
    shared_limits,
    split_by_adaptation,
    within_classes,
)
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.scaling import fit_power_law, why_no_power_law
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import baseline_caption, sample_size_caption
from cellpatch.figures.tables import ShownTable, format_ci
from cellpatch.metrics.scores import macro_f1

PARAMETERS = ("floor", "gain", "exponent")
NOTE = "From: the flag_limit from which it stays ahead; always: at every common limit; never: at none."


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """The crossings if there are pairs of models, and the fits."""
    sizes = sample_size_caption(groups)
    fits, pairs = power_laws(groups), crossings(groups)
    notes = (sizes, baseline_caption(groups))
    table_of_fits = ShownTable("scaling", "Power laws of macro-F1 and flag_limit", shown_power_laws(fits), fits, notes)
    if pairs.empty:
        return [table_of_fits]
    return [
        ShownTable(
            "crossings",
            "Which model stays ahead, and from which limit",
            shown_crossings(pairs),
            pairs,
            (sizes, NOTE),
            NOTE,
        ),
        table_of_fits,
    ]


def power_laws(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row a curve: limits, scores at the first and last, and the fit's parameters or why there is none."""
    rows = []
    for label, whole in by_label(learning_curves(groups), groups).items():
        curve = within_classes(whole)
        if not curve.limits:
            continue
        estimates = curve.estimates(curve.limits, macro_f1)
        means = np.array([estimate.mean for estimate in estimates])
        draws = np.stack([estimate.bootstrap_samples() for estimate in estimates], axis=1)
        row = {"model": label, "limits": len(means), "first": means[0], "last": means[-1]}
        row["no fit because"] = refusal = why_no_power_law(curve.limits, draws) or ""
        if not refusal:
            of_mean, of_draws = fit_power_law(curve.limits, means), fit_power_law(curve.limits, draws)
            for i, name in enumerate(PARAMETERS):
                low, high = interval(of_draws[:, i])
                row |= {name: of_mean[i], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    columns = [f"{name}{end}" for name in PARAMETERS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows).reindex(columns=["model", "limits", "first", "last", *columns, "no fit because"])


def crossings(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row a pair of a model from scratch and a pretrained one that share two limits: who stays ahead from where."""
    scratch, pretrained = split_by_adaptation(by_label(learning_curves(groups), groups))
    rows = []
    for small, small_curve in scratch.items():
        for large, large_curve in pretrained.items():
            if len(shared_limits(small_curve, large_curve)) > 1:
                small_ahead, crossing = crossing_of_leader(small_curve, large_curve, macro_f1)
                row = {"from scratch": small, "pretrained": large, "ahead in the end": small if small_ahead else large}
                rows.append(row | {"from": crossing.limit, "low": crossing.low, "high": crossing.high})
    return pd.DataFrame(rows, columns=["from scratch", "pretrained", "ahead in the end", "from", "low", "high"])


def format_limit(limit: float) -> str:
    """The flag_limit of a crossing in words."""
    return "always" if limit == 0 else "never" if np.isinf(limit) else "-" if np.isnan(limit) else f"{limit:.0f}"


def shown_power_laws(fits: pd.DataFrame) -> pd.DataFrame:
    """The fits for people."""
    shown = fits[["model", "limits"]].assign(first=fits["first"].map("{:.3f}".format))
    shown["last"] = fits["last"].map("{:.3f}".format)
    for name in PARAMETERS:
        ends = fits[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        shown[name] = ["-" if np.isnan(value) else format_ci(value, low, high, 2) for value, low, high in ends]
    return shown.assign(**{"no fit because": fits["no fit because"]})


def shown_crossings(pairs: pd.DataFrame) -> pd.DataFrame:
    """The crossings for people."""
    return pairs.assign(**{name: pairs[name].map(format_limit) for name in ("from", "low", "high")})


if __name__ == "__main__":
    main_of_table(tables)
