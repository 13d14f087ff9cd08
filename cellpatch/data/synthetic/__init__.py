"""Synthetic immunostained cells: whole fields of tissue, rendered and photographed, then cut into labelled crops.

Numbers of cells, specimens and types are those of the study (arXiv 2603.04081), stain vectors are published ones.
Shapes, sizes, counts and placement are our own choice. No real image is used, so no result on these cells is a result
about patients.
"""

from cellpatch.data.synthetic.cell_counts import CLASSES, plan_counts
from cellpatch.data.synthetic.specimen import CropSize, render, render_specimen

__all__ = ["CLASSES", "CropSize", "plan_counts", "render", "render_specimen"]
