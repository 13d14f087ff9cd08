"""Synthetic immunostained cells: whole fields of tissue, rendered and photographed, then cut into labelled
crops.

Specimens, class names and stain vectors follow the study notes where those state them; shapes, sizes, counts
and placement are our own choice. No real image went in, so no result on these cells is a result about
patients.
"""

from cellpatch.data.synthetic.plan import CLASSES, plan_counts
from cellpatch.data.synthetic.specimen import render, render_specimen

__all__ = ["CLASSES", "plan_counts", "render", "render_specimen"]
