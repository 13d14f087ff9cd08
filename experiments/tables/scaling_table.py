"""How does macro-F1 grow with annotations, and from how many on does one model stay ahead of another?

    python experiments/scaling_table.py runs          # writes tables/scaling-DATA.* and tables/crossings-DATA.*

Fits 1 - macro-F1 = floor + gain (limit / first limit)^-exponent where the data support one, and says why not where
they do not; limits that no class has the training cells for are left out. Of a model from scratch and a pretrained one
the second table tells which is ahead at the largest limit that both have, and the flag_limit from which on it stays so,
linear in log2 between limits: `always` from the first limit on, `never` (of an end of the interval) not even at the
largest. Intervals are 95 %, of draws over specimens and seeds (somewhat too wide).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.curves import crossing_of_leader, learning_curves, within_classes
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.scaling import fit_power_law, why_no_power_law
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import file_name, sample_size_caption
from cellpatch.figures.tables import format_ci, write_table
from cellpatch.metrics.scores import macro_f1

PARAMETERS = ("floor", "gain", "exponent")
WORDS = "From: the flag_limit from which on it stays ahead; always: at every limit that both have; never: at none."


def fits(groups: Sequence[SeedGroup]) -> pd.DataFrame:
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
            found, drawn = fit_power_law(curve.limits, means), fit_power_law(curve.limits, draws)
            for i, name in enumerate(PARAMETERS):
                low, high = interval(drawn[:, i])
                row |= {name: found[i], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    columns = [f"{name}{end}" for name in PARAMETERS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows).reindex(columns=["model", "limits", "first", "last", *columns, "no fit because"])


def crossings(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row a pair of a model from scratch and a pretrained one that share two limits: who stays ahead from where."""
    found = by_label(learning_curves(groups), groups)
    rows = []
    for small in [label for label, curve in found.items() if curve.place["adapt"] == "scratch"]:
        for large in [label for label, curve in found.items() if curve.place["adapt"] != "scratch"]:
            if len(set(found[small].limits) & set(found[large].limits)) > 1:
                scratch, (place, low, high) = crossing_of_leader(found[small], found[large], macro_f1)
                row = {"from scratch": small, "pretrained": large, "ahead in the end": small if scratch else large}
                rows.append(row | {"from": place, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["from scratch", "pretrained", "ahead in the end", "from", "low", "high"])


def in_words(limit: float) -> str:
    """A flag_limit of a crossing."""
    return "always" if limit == 0 else "never" if np.isinf(limit) else "-" if np.isnan(limit) else f"{limit:.0f}"


def write(data: str, groups: Sequence[SeedGroup], folder: Path = Path("tables")) -> list[Path]:
    """Print and write both tables; gives the files."""
    table, pairs = fits(groups), crossings(groups)
    files = write_table(folder / file_name("scaling", data), table, shown_fits(table), [sample_size_caption(groups)])
    if not pairs.empty:
        notes = [sample_size_caption(groups), WORDS]
        files += write_table(folder / file_name("crossings", data), pairs, shown_crossings(pairs), notes)
    return files


def shown_fits(table: pd.DataFrame) -> pd.DataFrame:
    """The first table for people."""
    shown = table[["model", "limits"]].assign(first=table["first"].map("{:.3f}".format))
    shown["last"] = table["last"].map("{:.3f}".format)
    for name in PARAMETERS:
        ends = table[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        shown[name] = ["-" if np.isnan(value) else format_ci(value, low, high, 2) for value, low, high in ends]
    return shown.assign(**{"no fit because": table["no fit because"]})


def shown_crossings(pairs: pd.DataFrame) -> pd.DataFrame:
    """The second table for people."""
    return pairs.assign(**{name: pairs[name].map(in_words) for name in ("from", "low", "high")})


if __name__ == "__main__":
    main_of_table(write)
