"""cellpatch: which model, and how many annotations, for single cells in 40x40 pixels?"""

__version__ = "0.4.0"
