"""Is the best model better than the others by more than chance? Paired differences in macro-F1 to the best.

    python experiments/compare_table.py runs          # writes tables/compare-DATA.*

At the flag_limit that most models have. The difference is on the same test cells and seeds, its 95 % interval over
specimens and seeds. Which model is the best was read off the same cells, so that small differences to it are somewhat
too large, and there are many: a second interval holds for all pairs of models at once, and only who is behind by that
one is behind. p is of a permutation test that swaps two models' specimens (20,000 draws, of these
seeds), corrected for the number of comparisons to the best (Holm).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cellpatch.analysis.estimates import difference, paired, simultaneous_intervals
from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of
from cellpatch.analysis.hypothesis_tests import holm, permutation_p
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import file_name, sample_size_caption
from cellpatch.figures.tables import format_ci, write_table
from cellpatch.metrics.scores import class_counts, macro_f1
from cellpatch.optics.conditions import CLEAN

SWAPS = 20_000
NOTE = (
    "The best was read off the same cells: a model is behind it where the interval of all pairs at once lies above 0."
)


def summarise(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row a model but the best: macro-F1, how far it is behind, both intervals, p and p after Holm."""
    chosen = by_label(at_one_limit(groups), groups)
    scores = {label: group.estimate(CLEAN, macro_f1) for label, group in chosen.items()}
    best, *others = sorted(chosen, key=lambda label: -scores[label].mean)
    if not others:
        raise ValueError("a comparison needs two models at the same flag_limit")
    behind = [difference(scores[best], scores[label]) for label in others]
    rows = []
    for label, apart, (low_of_all, high_of_all) in zip(others, behind, simultaneous_intervals(behind), strict=True):
        low, high = apart.interval()
        places = paired([chosen[best].seeds, chosen[label].seeds])
        one, other = (_tallies(chosen[name], of) for name, of in zip((best, label), places, strict=True))
        row = {"flag_limit": limit_of(chosen), "best": best, "model": label, "macro_f1": scores[label].mean}
        row |= {"behind": apart.mean, "low": low, "high": high, "seeds": len(apart.seeds)}
        row |= {"low_of_all": low_of_all, "high_of_all": high_of_all}
        rows.append(row | {"p": permutation_p(one, other, macro_f1, SWAPS, seed=0)})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def _tallies(group: SeedGroup, places: Sequence[int]) -> np.ndarray:
    return class_counts(np.stack([group.runs[i].confusions[CLEAN] for i in places]))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    rows = table.to_dict("records")
    columns = {
        "model": [row["model"] for row in rows],
        "macro-F1": [f"{row['macro_f1']:.3f}" for row in rows],
        f"behind {rows[0]['best']} at {rows[0]['flag_limit']}": [
            format_ci(row["behind"], row["low"], row["high"]) for row in rows
        ],
        "of all pairs at once": [f"{row['low_of_all']:.3f} to {row['high_of_all']:.3f}" for row in rows],
        "shared seeds": [row["seeds"] for row in rows],
        "p, these seeds (Holm)": [f"{row['p_holm']:.2g}" for row in rows],
    }
    return pd.DataFrame(columns)


def write(data: str, groups: Sequence[SeedGroup], folder: Path = Path("tables")) -> list[Path]:
    """Print and write the table; gives the files."""
    table = summarise(groups)
    return write_table(folder / file_name("compare", data), table, shown(table), [sample_size_caption(groups), NOTE])


if __name__ == "__main__":
    main_of_table(write)
