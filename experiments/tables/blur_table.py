"""What does blur cost, before and after the resize? Scores, slopes and areas, and where one model's lead ends.

    cellpatch tables runs blur_table            # writes tables/blur-DATA.* and tables/leads-DATA.*

Reads stored predictions, or packed runs, alone. Intervals are 95 %, over specimens and seeds; draws of specimens are
the same for every run and condition, so that differences are paired. The slope is of the score against
log2(1 + sigma), the clean condition included (the study's degradation rate); `relative slope` is over the clean
score. Slopes and areas are of the `sigmas` that stand beside them. A draw that lacks a class is drawn again, `redrawn`
is their share. The second table gives the sigma at which the better of two on clean cells stops being the better one,
of the sigmas that both have, at the flag_limit that most models have.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpatch.analysis.blur import blur_leads, summarise_blur
from cellpatch.analysis.groups import SeedGroup, under_blur
from cellpatch.analysis.labels import keys_in, row_keys
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import baseline_caption, sample_size_caption
from cellpatch.figures.tables import MIXED_CODE, ShownTable, format_ci, mixed_code_column

NOTE = "Ends: the sigma from which the leader on sharp cells is no longer ahead; never: it is ahead at every sigma."


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """Both tables; raises ValueError if no run was evaluated under blur."""
    blurred = under_blur(groups)
    summary, leads = _with_mixed_code(summarise_blur(blurred), blurred), blur_leads(blurred, groups)
    sizes, rule = sample_size_caption(blurred, groups), baseline_caption(groups)
    return [
        ShownTable("blur", "Under blur", shown_scores(summary), summary, (sizes, rule)),
        ShownTable("leads", "Up to which sigma a lead lasts", shown_leads(leads), leads, (sizes, NOTE), NOTE),
    ]


def _with_mixed_code(summary: pd.DataFrame, groups: Sequence[SeedGroup]) -> pd.DataFrame:
    columns = mixed_code_column(groups)
    if not columns:
        return summary
    keys = row_keys(groups)
    of_groups = [tuple(getattr(group.coordinates, key) for key in keys) for group in groups]
    by_coordinates = dict(zip(of_groups, columns[MIXED_CODE], strict=True))
    rows = summary[keys].itertuples(index=False, name=None)
    return summary.assign(**{MIXED_CODE: [by_coordinates[row] for row in rows]})


def shown_scores(summary: pd.DataFrame) -> pd.DataFrame:
    """The table for people: a row a group, kind and score."""
    index = [*keys_in(summary), "seeds", "kind", "sigmas", "score"]
    index += [MIXED_CODE] if MIXED_CODE in summary else []
    ends = summary[["value", "low", "high"]].to_numpy()
    worded = summary.assign(words=[format_ci(value, low, high) for value, low, high in ends])
    wide = worded.pivot_table(index=index, columns="what", values="words", aggfunc="first", sort=False)
    return wide.fillna("-").reset_index()


def shown_leads(leads: pd.DataFrame) -> pd.DataFrame:
    """The second table for people."""
    return leads.assign(**{name: leads[name].map(_format_sigma) for name in ("ends", "low", "high")})


def _format_sigma(sigma: float) -> str:
    return "never" if np.isinf(sigma) else "-" if np.isnan(sigma) else f"{sigma:.2f}"


if __name__ == "__main__":
    main_of_table(tables)
