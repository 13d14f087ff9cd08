"""The sixteen types: painter, size of the window and irregularity of the outline of each.

Types share cues on purpose: each has pale, dark, atypical, badly cut and weakly stained forms. Neither colour nor size
nor outline alone identifies a type.
"""

from collections.abc import Callable

from cellpatch.data.synthetic.fixed_cells import (
    adenocarcinoma,
    endothelial_cell,
    glandular_epithelium,
    smooth_muscle,
    stromal_cell,
)
from cellpatch.data.synthetic.frame import Frame
from cellpatch.data.synthetic.immune_cells import (
    double_membrane,
    eosinophil,
    green_membrane,
    lymphocyte,
    macrophage,
    neutrophil,
    plasma_cell,
    red_membrane,
)
from cellpatch.data.synthetic.loose_cells import apoptotic_body, non_cellular, red_blood_cell
from cellpatch.data.synthetic.paint import Paint

# Painter, half side of its window (um) and sd of the warp of its outline (um), in the order of cell_counts.CLASSES;
# all our choice.
PAINTERS: tuple[tuple[Callable[[Frame], Paint], float, float], ...] = (
    (adenocarcinoma, 9.0, 0.50),
    (glandular_epithelium, 9.5, 0.30),
    (stromal_cell, 9.5, 0.45),
    (lymphocyte, 6.5, 0.32),
    (red_membrane, 7.0, 0.38),
    (green_membrane, 7.0, 0.38),
    (double_membrane, 7.0, 0.38),
    (macrophage, 8.5, 0.45),
    (non_cellular, 7.5, 0.80),
    (plasma_cell, 8.0, 0.28),
    (neutrophil, 6.5, 0.30),
    (eosinophil, 6.5, 0.30),
    (endothelial_cell, 8.5, 0.30),
    (smooth_muscle, 11.5, 0.35),
    (red_blood_cell, 5.5, 0.30),
    (apoptotic_body, 5.5, 0.25),
)
