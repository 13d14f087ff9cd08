"""How many cells of which class each specimen has."""

import numpy as np
from numpy.typing import NDArray

MAX_CELLS = 185_432  # annotated cells of the study, arXiv 2603.04081
MAX_SPECIMENS = 303  # its specimens
MIN_PER_CLASS = 3  # one for each part of a split

# Share of each class at full size: 16 types, strongly unbalanced, as in the study; every number is our choice. The
# first nine names are from related published material, the last seven are our choice.
SHARES: dict[str, float] = {
    "adenocarcinoma": 0.1950,
    "glandular_epithelium": 0.1150,
    "stromal_cell": 0.1668,
    "lymphocyte": 0.1350,
    "red_membrane": 0.0550,
    "green_membrane": 0.0800,
    "double_membrane": 0.0400,
    "macrophage": 0.0350,
    "non_cellular": 0.0900,
    "plasma_cell": 0.0300,
    "neutrophil": 0.0070,
    "eosinophil": 0.0040,
    "endothelial_cell": 0.0200,
    "smooth_muscle": 0.0160,
    "red_blood_cell": 0.0090,
    "apoptotic_body": 0.0022,
}
CLASSES: tuple[str, ...] = tuple(SHARES)

_SIZE_SPREAD = 0.45  # log-sd of the specimens' sizes (our choice)
_COMPOSITION = 2.0  # Dirichlet concentration per class: lower makes specimens differ more (our choice)


def plan_counts(cells: int, specimens: int, seed: int) -> NDArray[np.int64]:
    """Draw the number of cells of each class in each specimen.

    Returns int64 [specimens, 16] that sums exactly to `cells`; the class totals depend on `cells` alone. Every class
    has at least max(3, min(cells // 150, 40)) cells, in at least min(specimens, its cells, max(12, 0.4 * specimens))
    specimens. No specimen is empty. Raises ValueError outside 48..185,432 cells, 3..303 specimens, or with fewer cells
    than specimens.
    """
    check_size(cells, specimens, seed)
    rng = np.random.default_rng([seed, cells, specimens])
    sizes = np.exp(_SIZE_SPREAD * rng.standard_normal(specimens))
    # A row of independent gammas, normalised by the multinomial below, is a Dirichlet draw.
    affinity = sizes[:, None] * rng.gamma(_COMPOSITION, size=(specimens, len(CLASSES)))
    counts = np.zeros((specimens, len(CLASSES)), np.int64)
    for label, total in enumerate(class_totals(cells)):
        spread = min(specimens, int(total), max(12, round(0.4 * specimens)))
        counts[rng.permutation(specimens)[:spread], label] += 1
        share = affinity[:, label] / affinity[:, label].sum()
        counts[:, label] += rng.multinomial(int(total) - spread, share)
    return _fill_empty(counts)


def class_totals(cells: int) -> NDArray[np.int64]:
    """Split `cells` by SHARES, largest remainder first, no class below its floor; int64 [16], sum `cells`."""
    floor = max(MIN_PER_CLASS, min(cells // 150, 40))
    shares = np.array(list(SHARES.values()))
    ideal = np.maximum(shares / shares.sum() * cells, floor)
    above = ideal - floor
    if above.sum() > 0:
        ideal = floor + above * (cells - floor * len(CLASSES)) / above.sum()
    totals: NDArray[np.int64] = np.floor(ideal).astype(np.int64)
    order = np.argsort(-(ideal - totals), kind="stable")
    totals[order[: cells - int(totals.sum())]] += 1
    return totals


def check_size(cells: int, specimens: int, seed: int) -> None:
    """Raise ValueError if an argument of `plan_counts` is out of range."""
    if not 3 <= specimens <= MAX_SPECIMENS:
        raise ValueError(f"Expected argument `specimens` to be in 3..{MAX_SPECIMENS}, but got {specimens}")
    least = max(MIN_PER_CLASS * len(CLASSES), specimens)
    if not least <= cells <= MAX_CELLS:
        raise ValueError(
            f"Expected argument `cells` to be in {least}..{MAX_CELLS} (at least {MIN_PER_CLASS} for each of "
            f"{len(CLASSES)} classes and 1 for each specimen), but got {cells}"
        )
    if seed < 0:
        raise ValueError(f"Expected argument `seed` to be >= 0, but got {seed}")


def _fill_empty(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move one cell of the largest specimen's most frequent class to each empty specimen."""
    for specimen in np.flatnonzero(counts.sum(1) == 0):
        donor = int(counts.sum(1).argmax())
        label = int(counts[donor].argmax())
        counts[donor, label] -= 1
        counts[specimen, label] += 1
    return counts
