"""Where synthetic specimens are stained and scanned: ranges that one laboratory's specimens are drawn from.

Hospital a is that of all SYNTHETIC cells. Hospital b is a test of external validity: it has another red chromogen, AEC
(Landini, Colour Deconvolution 2), paler haematoxylin, and an older scanner with a darker, warmer white, a softer focus
and stronger compression. All these ranges are our choice.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hospital:
    """A laboratory: optical densities of its red, factors of all stains, and its scanner.

    `red` is a unit vector before it is normalised. `gain` are factors of haematoxylin, red, green and the tissue's own
    absorption. `focus_um` are ranges of the Gaussian's sd in sharp and in soft scans. `white` is the range of the light
    without tissue of red, green and blue, `quality` that of JPEG, whose upper end is left out.
    """

    red: tuple[float, float, float]
    gain: tuple[float, float, float, float]
    focus_um: tuple[tuple[float, float], tuple[float, float]]
    white: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    quality: tuple[int, int]


HOSPITALS = {
    "a": Hospital(
        red=(0.214, 0.851, 0.478),
        gain=(1, 1, 1, 1),
        focus_um=((0.18, 0.42), (0.45, 0.75)),
        white=((0.90, 0.99),) * 3,
        quality=(70, 96),
    ),
    "b": Hospital(
        red=(0.274, 0.680, 0.680),
        gain=(0.8, 1.1, 0.9, 1),
        focus_um=((0.30, 0.55), (0.60, 0.90)),
        white=((0.86, 0.93), (0.84, 0.91), (0.78, 0.86)),
        quality=(45, 70),
    ),
}
