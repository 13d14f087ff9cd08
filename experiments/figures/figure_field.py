"""How much context does a cell need? Macro-F1 against the field of view: the side of the crop, um.

    cellpatch train -m data=points ... data.field_um=10,20,40 data.widest_field_um=40
    cellpatch figures runs figure_field          # or: make figure_field RUNS=runs

Of what was run at several fields: a panel a model and adapt, a line a flag_limit. The input side stays the same, so a
larger field shows each cell smaller. `data.widest_field_um` keeps the same cells at each.
"""

from collections.abc import Sequence

from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.input_axes import FIELD_OF_VIEW
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.against import draw_against
from cellpatch.figures.plotting import Drawing


def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean cells against the field of view, um; raises ValueError if there is one field only."""
    return draw_against(FIELD_OF_VIEW, "figure_field", data, groups)


if __name__ == "__main__":
    main_of_figure(draw)
