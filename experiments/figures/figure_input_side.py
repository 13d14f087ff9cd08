"""Does a foundation model need 224 px? Macro-F1 against its input side.

    cellpatch train -m model=dinov2_s model.weights.file=FILE model.backbone.input_px=56,112,224 ...
    cellpatch figures runs figure_input_side          # or: make figure_input_side RUNS=runs

Of models that were run at several sides: a panel a model and adapt, a line a flag_limit.
"""

from collections.abc import Sequence

from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.input_axes import INPUT_SIDE
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.against import draw_against
from cellpatch.figures.plotting import Drawing


def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """Macro-F1 on clean cells against the side of the input, px; raises ValueError if there is one side only."""
    return draw_against(INPUT_SIDE, "figure_input_side", data, groups)


if __name__ == "__main__":
    main_of_figure(draw)
