"""The specimens of cells: their names as numbers, and which of them lie in several parts of a split."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

Specimens = Shaped[np.ndarray, " n"] | pd.Categorical  # names: as categories, millions take megabytes


def number_specimens(
    specimens: Specimens, members: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " m"], Shaped[np.ndarray, " k"]]:
    """The number of each member's specimen, and the names of the specimens that have members, sorted.

    `specimens` are of all cells, `members` the indices of some; categories must be sorted.
    """
    if not isinstance(specimens, pd.Categorical):
        return pd.factorize(specimens[members], sort=True)
    codes = specimens.codes[members]  # not by pandas: of ten million cells a quarter of its time and memory
    present = np.bincount(codes, minlength=len(specimens.categories)) > 0
    return (np.cumsum(present, dtype=codes.dtype) - 1)[codes], specimens.categories[present].to_numpy()


def shared_specimens(parts: Mapping[str, Int[np.ndarray, " m"]], specimens: Specimens) -> list[str]:
    """The names of the specimens that have cells in more than one part, sorted."""
    times = Counter(str(name) for part in parts.values() for name in number_specimens(specimens, part)[1])
    return sorted(name for name, n in times.items() if n > 1)
