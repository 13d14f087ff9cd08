"""Which cells a gallery shows, and how a page holds them."""

import base64
import io

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8
from PIL import Image


def pick_across_specimens(specimens: pd.Series, n: int) -> Int[np.ndarray, " picked"]:
    """Positions of n cells drawn at random: one a specimen, and more of each once all have one."""
    drawn = specimens.reset_index(drop=True).sample(frac=1, random_state=0)
    turn = drawn.groupby(drawn, observed=True).cumcount()
    return turn.sort_values(kind="stable").index[:n].to_numpy()


def png_base64(crop: UInt8[np.ndarray, "h w 3"]) -> str:
    """A crop as the base64 of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()
