"""How many cells must a human look at? The share of the least sure cells to send, so that the rest is 95 % right.

    cellpatch tables runs referral_table      # writes tables/referral-DATA.*

Clean and under strong blur. The area is that under the curve of risk against coverage: the
share of errors among the cells that are kept, as a mean over all shares that may be sent. Needs the runs directory:
packed runs hold no probabilities.
"""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.cells import with_cells
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import keys_in
from cellpatch.analysis.referral import TARGET, summarise_referral
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.tables import ShownTable, format_ci
from cellpatch.optics.conditions import Condition

NOTE = (
    f"To send: the smallest share of the least sure test cells without which {100 * TARGET:g} % of the rest are right; "
    "1 if no share is enough. Area: the mean share of errors among kept cells over all shares. The share is chosen on "
    "the test cells: a threshold for new cells must be chosen on others."
)


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """A row a group and condition; raises ValueError if all runs are packed."""
    summary = summarise_referral(groups)
    sizes = sample_size_caption(with_cells(groups), groups)
    return [ShownTable("referral", "Cells to send to a human", _shown(summary), summary, (sizes, NOTE), NOTE)]


def _shown(summary: pd.DataFrame) -> pd.DataFrame:
    conditions = [Condition(kind, sigma) for kind, sigma in zip(summary["kind"], summary["sigma"], strict=True)]
    shown = summary[[*keys_in(summary), "seeds"]].copy()
    shown["cells"] = [str(condition) for condition in conditions]
    for name, title in (("accuracy", "accuracy of all"), ("share_to_send", "to send"), ("risk_area", "area")):
        ends = summary[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        shown[title] = [format_ci(*each) for each in ends]
    return shown


if __name__ == "__main__":
    main_of_table(tables)
