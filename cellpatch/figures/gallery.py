"""Which cells a gallery shows."""

import numpy as np
import pandas as pd
from jaxtyping import Int


def pick_across_specimens(specimens: pd.Series, n: int) -> Int[np.ndarray, " picked"]:
    """Positions of n cells drawn at random: one a specimen, and more of each once all have one."""
    drawn = specimens.reset_index(drop=True).sample(frac=1, random_state=0)
    turn = drawn.groupby(drawn, observed=True).cumcount()
    return turn.sort_values(kind="stable").index[:n].to_numpy()
