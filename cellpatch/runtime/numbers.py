"""Numbers in texts."""

import numpy as np


def rounded(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never as a power of ten: 1140, not 1.14e+03."""
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")
