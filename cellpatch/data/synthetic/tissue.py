"""Layout of one field of tissue: which cell is where.

Preferences are our choice, from general histology. Cells with both membranes are next to or in epithelium, cells with
one are in stroma, as CD8+CD103+ and CD8+ T cells are. Which marker has which colour is not defined.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellpatch.data.synthetic.cell_counts import CLASSES
from cellpatch.data.synthetic.structures import (
    BLOOD,
    GLAND,
    LUMEN,
    MUSCLE,
    NEST,
    STROMA,
    WALL,
    Ints,
    Points,
    Slots,
    Structure,
    find_slots,
    plan_structures,
    scatter_structures,
)

# Preference of each class for each tissue, in the order of TISSUES. Never zero: any cell fits somewhere.
_PREFERENCE = {
    "adenocarcinoma": (1e-4, 1.0, 1e-5, 1e-6, 1e-6, 1e-6, 1e-5),
    "glandular_epithelium": (1.0, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6, 1e-5),
    "stromal_cell": (1e-4, 1e-2, 1e-4, 1e-3, 1e-6, 2e-2, 1.0),
    "lymphocyte": (3e-2, 3e-2, 1e-2, 1e-2, 3e-2, 1e-2, 1.0),
    "red_membrane": (5e-2, 5e-2, 1e-2, 1e-2, 2e-2, 1e-2, 1.0),
    "green_membrane": (5e-2, 5e-2, 1e-2, 1e-2, 2e-2, 1e-2, 1.0),
    "double_membrane": (0.5, 0.5, 1e-2, 1e-3, 1e-3, 1e-3, 1.0),
    "macrophage": (1e-3, 1e-2, 0.1, 1e-3, 1e-3, 1e-3, 1.0),
    "non_cellular": (1e-3, 5e-2, 1.0, 1e-3, 0.1, 0.1, 0.3),
    "plasma_cell": (1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1.0),
    "neutrophil": (5e-2, 5e-2, 1.0, 1e-2, 0.5, 1e-2, 0.3),
    "eosinophil": (1e-3, 1e-3, 1e-2, 1e-2, 0.1, 1e-2, 1.0),
    "endothelial_cell": (1e-6, 1e-5, 1e-6, 1.0, 1e-6, 1e-6, 5e-3),
    "smooth_muscle": (1e-6, 1e-6, 1e-6, 1e-4, 1e-6, 1.0, 1e-3),
    "red_blood_cell": (1e-6, 1e-4, 1e-2, 1e-5, 1.0, 1e-5, 1e-2),
    "apoptotic_body": (0.3, 1.0, 0.5, 1e-5, 1e-3, 1e-4, 5e-2),
}
# Unannotated cells at sites without an annotated one: class -> probability; the remaining sites stay empty.
_FILLERS: dict[int, dict[str, float]] = {
    GLAND: {"glandular_epithelium": 0.96, "lymphocyte": 0.02},
    NEST: {"adenocarcinoma": 0.90, "lymphocyte": 0.03, "apoptotic_body": 0.02},
    LUMEN: {"non_cellular": 0.25, "neutrophil": 0.05},
    WALL: {"endothelial_cell": 0.90},
    BLOOD: {"red_blood_cell": 0.60, "neutrophil": 0.03},
    MUSCLE: {"smooth_muscle": 0.75},
    STROMA: {"stromal_cell": 0.34, "lymphocyte": 0.16, "plasma_cell": 0.04, "macrophage": 0.04,
             "green_membrane": 0.04, "red_membrane": 0.03},
}  # fmt: skip
_IN_STRUCTURES = (
    "adenocarcinoma",
    "glandular_epithelium",
    "endothelial_cell",
    "smooth_muscle",
    "red_blood_cell",
)
_IMMUNE = ("lymphocyte", "red_membrane", "green_membrane", "plasma_cell", "eosinophil")
# Share of cells with an extra neighbour that touches or overlaps, by tissue (as TISSUES), and its distance.
_CROWDED = np.array([0.12, 0.15, 0.2, 0.2, 0.2, 0.2, 0.40])
_CROWDED_UM = (4.0, 7.5)
_NEAR_UM = 7.0  # reach of the epithelium's pull on cells with both membranes


@dataclass(frozen=True)
class Layout:
    """A square field: side, structures, and the cells in it; `annotated` marks those that become crops."""

    side: float
    structures: list[Structure]
    flow: float
    xy: Points
    angle: Points
    label: Ints
    annotated: NDArray[np.bool_]


def lay_out(counts: Ints, border: float, rng: np.random.Generator, least_side: float = 0.0) -> Layout:
    """Lay out `counts` [16] annotated cells, `border` um or more from the field's edge, and fillers around them.

    The field is as large as the cells need, and at least `least_side` um.
    """
    total = int(counts.sum())
    plan = plan_structures(counts, rng)
    area = max(_first_area(counts, plan), max(least_side - 2 * border, 0.0) ** 2)
    flow = float(rng.uniform(0, np.pi))
    while True:
        side = float(np.sqrt(area)) + 2 * border
        structures = scatter_structures(plan, side, rng)
        slots = find_slots(structures, side, flow, rng)
        inner = np.all((slots.xy > border) & (slots.xy < side - border), axis=1)
        if inner.sum() >= 1.08 * total + 2:  # some sites stay free, or the last cells would have no choice
            break
        area *= 1.15
    label = _assign(counts, slots, inner, side, rng)
    annotated = label >= 0
    label = np.where(annotated, label, _draw_fillers(slots.tissue, rng))
    keep = np.flatnonzero(label >= 0)
    xy, tissue = _crowd(slots.xy[annotated], slots.tissue[annotated], rng)
    extra = _draw_fillers(tissue, rng)
    filled = extra >= 0
    return Layout(
        side,
        structures,
        flow,
        np.concatenate([slots.xy[keep], xy[filled]]),
        np.concatenate([slots.angle[keep], rng.uniform(0, 2 * np.pi, int(filled.sum()))]),
        np.concatenate([label[keep], extra[filled]]),
        np.concatenate([annotated[keep], np.zeros(int(filled.sum()), bool)]),
    )


def _first_area(counts: Ints, plan: list[Structure]) -> float:
    """Return the area (um^2) to try first: structures cover 60 % of their share, a loose cell takes 85 um^2."""
    loose = [n for name, n in zip(CLASSES, counts, strict=True) if name not in _IN_STRUCTURES]
    return float(sum(np.pi * s.a * s.b for s in plan)) / 0.60 + 85.0 * max(float(sum(loose)), 4.0)


def _assign(counts: Ints, slots: Slots, inner: NDArray[np.bool_], side: float, rng: np.random.Generator) -> Ints:
    """Return a class per site, -1 where none: smallest counts first, sampled by preference, not replaced."""
    label = np.full(len(slots.tissue), -1, np.int64)
    free = inner.copy()
    # Inflammation comes in patches: a few random waves over the field.
    waves = rng.normal(0, 1 / 45.0, (2, 4))
    patch = np.sin(slots.xy @ waves + rng.uniform(0, 2 * np.pi, 4)).sum(1)
    for c in np.argsort(counts, kind="stable"):
        if counts[c] == 0:
            continue
        name = CLASSES[c]
        weight = np.log(np.array(_PREFERENCE[name])[slots.tissue])
        if name in _IMMUNE:
            weight += 0.6 * patch
        if name == "double_membrane":
            weight -= np.minimum(slots.distance / _NEAR_UM, 6.0)
        score = np.where(free, weight + rng.gumbel(size=len(weight)), -np.inf)
        chosen = np.argpartition(-score, counts[c] - 1)[: counts[c]]
        label[chosen] = c
        free[chosen] = False
    return label


def _crowd(xy: Points, tissue: Ints, rng: np.random.Generator) -> tuple[Points, Ints]:
    """Return sites of neighbours that touch or overlap a share of the given cells, and their tissues."""
    crowded = rng.random(len(xy)) < _CROWDED[tissue]
    far = rng.uniform(*_CROWDED_UM, (len(xy), 1))
    turn = rng.uniform(0, 2 * np.pi, len(xy))
    near = xy + far * np.stack([np.cos(turn), np.sin(turn)], 1)
    return near[crowded], tissue[crowded]


def _draw_fillers(tissue: Ints, rng: np.random.Generator) -> Ints:
    """Return a filler class, or -1 for an empty site, for each site [n] by its tissue."""
    labels = np.full(len(tissue), -1, np.int64)
    for kind, shares in _FILLERS.items():
        sites = np.flatnonzero(tissue == kind)
        choices = np.array([CLASSES.index(name) for name in shares] + [-1])
        chance = np.array([*shares.values(), 1 - sum(shares.values())])
        labels[sites] = rng.choice(choices, size=len(sites), p=chance)
    return labels
