"""Which cells a gallery shows."""

import numpy as np
import pandas as pd


def pick_across_specimens(specimens: pd.Series, n: int) -> np.ndarray:
    """Places of n cells drawn at random: one a specimen, and more of each once all have one."""
    drawn = specimens.reset_index(drop=True).sample(frac=1, random_state=0)
    turn = drawn.groupby(drawn, observed=True).cumcount()
    return turn.sort_values(kind="stable").index[:n].to_numpy()
