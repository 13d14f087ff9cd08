"""Ellipses of tissue (glands, tumour nests, vessels, muscle), and the sites for cells in them and in the stroma.

Lengths are um. Sizes and spacings are our choice, from general histology: a crypt of 40-70 um, columnar nuclei
every 5.6 um, tumour nuclei every 8.6 um, 10 um between cells of the stroma.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellpatch.data.synthetic.cell_counts import CLASSES

Points = NDArray[np.float64]
Ints = NDArray[np.int64]

TISSUES = ("gland", "nest", "lumen", "wall", "blood", "muscle", "stroma")
GLAND, NEST, LUMEN, WALL, BLOOD, MUSCLE, STROMA = range(len(TISSUES))


@dataclass(frozen=True)
class Structure:
    """An ellipse of one tissue (GLAND, NEST, WALL for a vessel, MUSCLE): centre, half axes, angle."""

    tissue: int
    x: float
    y: float
    a: float
    b: float
    angle: float
    hole: float  # the lumen's share of the half axes, 0 for none

    def radius(self, points: Points) -> Points:
        """Return the elliptical radius of points [n, 2]: 1 on the outline."""
        dx, dy = points[:, 0] - self.x, points[:, 1] - self.y
        c, s = np.cos(self.angle), np.sin(self.angle)
        radius: Points = np.hypot((dx * c + dy * s) / self.a, (dy * c - dx * s) / self.b)
        return radius

    def to_field(self, u: Points, v: Points) -> Points:
        """Return field coordinates [n, 2] of the structure's own coordinates u (along the long axis) and v."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.stack([self.x + u * c - v * s, self.y + u * s + v * c], 1)


@dataclass(frozen=True)
class Slots:
    """Sites for cells: xy [n, 2], angle [n] of the long axis (rad), tissue [n], distance [n] to epithelium (um)."""

    xy: Points
    angle: Points
    tissue: Ints
    distance: Points


def plan_structures(counts: Ints, rng: np.random.Generator) -> list[Structure]:
    """Draw structures, without positions, that hold about the cells that need them; biggest first."""
    named = {name: int(n) for name, n in zip(CLASSES, counts, strict=True)}
    out = []
    need = {
        NEST: named["adenocarcinoma"] * 1.2,
        GLAND: named["glandular_epithelium"] * 1.1,
        MUSCLE: named["smooth_muscle"] * 1.3,
        WALL: max(named["endothelial_cell"] * 1.2, named["red_blood_cell"] * 0.8),
    }
    # Half axes from..to in um, and um^2 of structure per cell of its own.
    sizes = {NEST: (22, 48, 80), GLAND: (21, 33, 105), MUSCLE: (22, 40, 110), WALL: (8, 20, 90)}
    for tissue, (low, high, area) in sizes.items():
        left = need[tissue]
        while left > 0:
            a = float(rng.uniform(low, high))
            b = a * float(rng.uniform(0.65, 1.0))
            hole = {NEST: float(rng.choice([0.0, 0.0, 0.35])), GLAND: 0.45, MUSCLE: 0.0, WALL: 1.0}[tissue]
            out.append(Structure(tissue, 0.0, 0.0, a, b, float(rng.uniform(0, np.pi)), hole))
            left -= np.pi * a * b / area
    return sorted(out, key=lambda s: -s.a)


def scatter_structures(plan: list[Structure], side: float, rng: np.random.Generator) -> list[Structure]:
    """Position structures at random without overlap; one without room in 80 tries is left out."""
    positioned: list[Structure] = []
    for s in plan:
        taken = np.array([(p.x, p.y, p.a) for p in positioned]).reshape(-1, 3)
        tries = rng.uniform(0.15 * s.a, side - 0.15 * s.a, (80, 2))
        gap = np.hypot(tries[:, :1] - taken[:, 0], tries[:, 1:] - taken[:, 1]) - taken[:, 2] - s.a
        free = np.flatnonzero((gap > 2.0).all(1))
        if free.size:
            x, y = tries[free[0]]
            positioned.append(Structure(s.tissue, float(x), float(y), s.a, s.b, s.angle, s.hole))
    return positioned


def find_slots(structures: list[Structure], side: float, flow: float, rng: np.random.Generator) -> Slots:
    """Return the sites of all structures and of the stroma between them."""
    parts: list[tuple[Points, Points, int]] = []
    for s in structures:
        parts += _structure_slots(s, rng)
    stroma = _lattice(side, side, 10.0, 8.8, rng) + side / 2
    distance = np.full(len(stroma), 1e3)
    free = np.ones(len(stroma), bool)
    for s in structures:
        gap = (s.radius(stroma) - 1) * s.b
        free &= gap > 3.0
        if s.tissue in (GLAND, NEST):
            distance = np.minimum(distance, gap)
    wave = flow + 0.5 * np.sin(stroma[:, 0] / 31.0 + stroma[:, 1] / 47.0) + rng.normal(0, 0.3, len(stroma))
    parts.append((stroma[free], wave[free], STROMA))
    xy = np.concatenate([p[0] for p in parts])
    tissue = np.concatenate([np.full(len(p[0]), p[2], np.int64) for p in parts])
    near = np.concatenate([np.zeros(len(xy) - int(free.sum())), distance[free]])
    inside = np.all((xy > 0) & (xy < side), axis=1)
    angle = np.concatenate([p[1] for p in parts])
    return Slots(xy[inside], angle[inside], tissue[inside], near[inside])


def _structure_slots(s: Structure, rng: np.random.Generator) -> list[tuple[Points, Points, int]]:
    """Return (xy, angle, tissue) of the sites of one structure."""
    if s.tissue == GLAND:
        xy, outward = _around(s, -5.5, 5.6, 0.9, rng)
        return [(xy, outward, GLAND), _inside(s, s.hole * 0.9, 9.0, LUMEN, rng)]
    if s.tissue == WALL:
        xy, outward = _around(s, 0.3, 13.0, 0.3, rng)
        return [(xy, outward - np.pi / 2, WALL), _inside(s, 0.8, 7.0, BLOOD, rng)]
    if s.tissue == MUSCLE:
        uv = _lattice(2 * s.a, 2 * s.b, 17.0, 6.0, rng)
        xy = s.to_field(uv[:, 0], uv[:, 1])
        xy = xy[s.radius(xy) < 0.95]
        return [(xy, s.angle + rng.normal(0, 0.08, len(xy)), MUSCLE)]
    cells = _inside(s, 0.97, 8.6, NEST, rng)
    if s.hole == 0:
        return [cells]
    outside = s.radius(cells[0]) > s.hole + 3.0 / s.b
    outward = np.arctan2(cells[0][:, 1] - s.y, cells[0][:, 0] - s.x) + rng.normal(0, 0.3, len(cells[0]))
    return [(cells[0][outside], outward[outside], NEST), _inside(s, s.hole * 0.8, 9.0, LUMEN, rng)]


def _lattice(side_u: float, side_v: float, pitch_u: float, pitch_v: float, rng: np.random.Generator) -> Points:
    """Return jittered points of a staggered lattice over [-side/2, side/2] in both directions, [n, 2]."""
    rows, columns = int(side_v / pitch_v) + 1, int(side_u / pitch_u) + 1
    v, u = np.mgrid[0:rows, 0:columns].astype(float)
    u += 0.5 * (v % 2)
    points = np.stack([u.ravel() * pitch_u - side_u / 2, v.ravel() * pitch_v - side_v / 2], 1)
    points += rng.normal(0, 0.16, points.shape) * (pitch_u, pitch_v)
    return points


def _around(s: Structure, inset: float, pitch: float, jitter: float, rng: np.random.Generator) -> tuple[Points, Points]:
    """Return points at even arc length on the outline grown by `inset` um, and the outward direction."""
    t = np.linspace(0, 2 * np.pi, 400)
    a, b = s.a + inset, s.b + inset
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(a * np.cos(t)), np.diff(b * np.sin(t))))])
    n = max(int(arc[-1] / pitch), 3)
    t = np.interp((np.arange(n) + rng.uniform(-0.15, 0.15, n)) * arc[-1] / n, arc, t)
    move = rng.normal(0, jitter, n)
    xy = s.to_field((a + move) * np.cos(t), (b + move) * np.sin(t))
    return xy, s.angle + np.arctan2(np.sin(t) / b, np.cos(t) / a)


def _inside(
    s: Structure, share: float, pitch: float, tissue: int, rng: np.random.Generator
) -> tuple[Points, Points, int]:
    """Return jittered sites within `share` of the structure's half axes, at random angles."""
    uv = _lattice(2 * s.a, 2 * s.b, pitch, 0.88 * pitch, rng)
    xy = s.to_field(uv[:, 0], uv[:, 1])
    xy = xy[s.radius(xy) < share]
    return xy, rng.uniform(0, 2 * np.pi, len(xy)), tissue
