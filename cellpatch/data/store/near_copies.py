"""Cells of two specimens whose crops are nearly the same: exported twice, saved again as JPEG, shifted by a pixel."""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int8, Shaped, UInt8

if TYPE_CHECKING:  # half a second to import, and only preparing a store asks
    from scipy.spatial import cKDTree

# Distance of two signatures at length 1, sqrt(2 - 2 correlation). Nearest crops of other specimens, over all cells:
# 0.16 or more in EndoNuke and in synthetic cells. In red cells (Chula RBC-12), which look alike, the nearest of two
# different cells are at 0.109; the 57 pairs within 0.08 are of images that show one field twice (found by the images'
# common displacement and looked at). 99 % of crops are this near to themselves saved as JPEG (EndoNuke, red cells,
# synthetic): quality 90: 0.025, 0.040, 0.013; quality 75: 0.042, 0.074, 0.022. A shift by one pixel or 3 grey levels
# brighter: below 0.01. Half a pixel (medians 0.11, 0.04, 0.05) is found only in large crops; two pixels (0.22,
# 0.09, 0.10) mostly are not.
NEAR = 0.08
NEAR_COPIES = "cells whose crop nearly equals one of another specimen"
_BLOCKS = 6  # a side: 8 find fewer JPEG copies (98.2 % of red cells at quality 75, instead of 99.3 %)
# A window's first row and column; a shift the other way is the other crop's.
_WINDOWS = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 0))
_MIN_SIDE = _BLOCKS + 2  # pixels of a crop; smaller ones are not compared
_MIN_CONTRAST = 1.0  # grey levels, standard deviation of the block means: flatter crops are noise, and not compared
_DIMENSIONS = 8  # of the search: within 0.1, no red cell is near to more than 24 there
_RADIUS = NEAR + 1e-4  # of the search, in float32
_NEIGHBOURS = 32  # most candidates of a crop and window: bounds the work where thousands of crops are alike
_CROWD_EPS = 3  # such a crop's candidates are not the very nearest: of 40,000 alike, 20 us a search instead of 600
_CHUNK = 2**14  # crops searched at once
_SAMPLE = 1000  # crops that show whether many are alike


def signatures(crops: UInt8[np.ndarray, "n side side 3"]) -> Int8[np.ndarray, "n windows blocks"]:
    """Grey block means of five windows of each crop, less their mean, scaled to -127 to 127; 0 where they are flat.

    A window is 2 px smaller than the crop. The first is its middle, the others are shifted by one pixel: two crops
    that are a pixel apart have one window in common.
    """
    n, side = crops.shape[:2]
    if side < _MIN_SIDE:
        return np.zeros((n, len(_WINDOWS), _BLOCKS**2), np.int8)
    means = _block_means(side)
    columns = crops.reshape(n, side, 3 * side).astype(np.float32) @ np.repeat(means.T / 3, 3, axis=0)
    blocks = (means @ columns).reshape(n, 3, _BLOCKS, 3, _BLOCKS)
    values = np.stack([blocks[:, row, :, column] for row, column in _WINDOWS], axis=1).reshape(n, len(_WINDOWS), -1)
    values -= values.mean(axis=-1, keepdims=True)
    values[values.std(axis=-1) < _MIN_CONTRAST] = 0
    largest = np.abs(values).max(axis=-1, keepdims=True)
    return np.rint(127 * values / np.maximum(largest, 1e-6)).astype(np.int8)


def _block_means(side: int) -> Float32[np.ndarray, "windows_x_blocks side"]:
    """Weights of the pixels of a row in the blocks of the windows that start at pixel 0, 1 and 2."""
    edges = np.arange(3)[:, None] + np.linspace(0, side - 2, _BLOCKS + 1)
    first, last = edges[:, :-1].reshape(-1, 1), edges[:, 1:].reshape(-1, 1)
    pixel = np.arange(side)
    covered = np.clip(np.minimum(last, pixel + 1) - np.maximum(first, pixel), 0, None)
    return (covered / (last - first)).astype(np.float32)


def near_groups(
    of_cells: Int8[np.ndarray, "n windows blocks"],
    specimens: Int[np.ndarray, " n"],
    digests: Shaped[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """A number for each group of cells that nearly equal one of another specimen, directly or in steps; else -1.

    Crops that are equal to the last pixel are one crop here, so they alone make no group.
    """
    from scipy.sparse import coo_array  # half a second to import, and only preparing a store asks
    from scipy.sparse.csgraph import connected_components

    _, first, crop = np.unique(digests, return_index=True, return_inverse=True)
    _, specimen = np.unique(specimens, return_inverse=True)
    mixed = np.zeros(len(first), bool)
    mixed[crop[specimen != specimen[first][crop]]] = True
    pairs = _near_pairs(of_cells[first], np.where(mixed, -1, specimen[first]))
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(first), len(first)))
    component = connected_components(edges, directed=False)[1][crop]
    grouped = np.isin(crop, pairs)
    groups = np.full(len(crop), -1)
    groups[grouped] = np.unique(component[grouped], return_inverse=True)[1]
    return groups


def _near_pairs(
    of_crops: Int8[np.ndarray, "m windows blocks"], specimen: Int[np.ndarray, " m"]
) -> Int[np.ndarray, "pairs 2"]:
    """Pairs of crops within NEAR that are of two specimens; specimen -1 is of several.

    The search is in principal components, where no distance is larger than the whole one, so it misses no pair of crops
    that have at most _NEIGHBOURS candidates each. 185,432 synthetic cells take 3 s on two cores, as many
    crops that are all alike 22 s.
    """
    from scipy.spatial import cKDTree

    present = np.flatnonzero(of_crops[:, 0].any(axis=-1))
    middle = _at_length_1(of_crops[present, 0])
    axes = np.linalg.eigh(middle.T @ middle)[1][:, -_DIMENSIONS:]
    order = cKDTree(middle @ axes).indices  # neighbours beside each other in memory: 2.6 times faster at 185,432 cells
    present, middle = present[order], middle[order]
    points = middle @ axes
    tree = cKDTree(points)
    crowded = _are_crowded(tree, points)
    pairs = [np.empty((0, 2), np.int64)]
    for members, eps in ((np.flatnonzero(~crowded), 0), (np.flatnonzero(crowded), _CROWD_EPS)):
        for window, start in product(range(len(_WINDOWS)), range(0, len(members), _CHUNK)):
            some = present[members[start : start + _CHUNK]]
            moved = _at_length_1(of_crops[some, window])
            bound = (1 + eps) * _RADIUS
            _, nearest = tree.query(moved @ axes, _NEIGHBOURS, eps, distance_upper_bound=bound, workers=-1)
            row, column = np.nonzero(nearest < len(present))
            other = nearest[row, column]
            one, two = some[row], present[other]
            wanted = (one != two) & ((specimen[one] != specimen[two]) | (specimen[one] < 0))
            wanted[wanted] = np.linalg.norm(moved[row[wanted]] - middle[other[wanted]], axis=-1) <= NEAR
            pairs.append(np.stack([one[wanted], two[wanted]], axis=1))
    return np.concatenate(pairs)


def _are_crowded(tree: "cKDTree", points: Float[np.ndarray, "m dimensions"]) -> Bool[np.ndarray, " m"]:
    """Which points of the tree have more than _NEIGHBOURS within _RADIUS, themselves included.

    Counting is safe where thousands are alike. Where a sample shows that few have so many, asking for the last of them
    takes a third of its time.
    """

    def counted(some: Float[np.ndarray, "some dimensions"]) -> Bool[np.ndarray, " some"]:
        return tree.query_ball_point(some, _RADIUS, return_length=True, workers=-1) > _NEIGHBOURS

    if counted(points[:: 1 + len(points) // _SAMPLE]).any():
        return counted(points)
    distance, _ = tree.query(points, [_NEIGHBOURS + 1], distance_upper_bound=_RADIUS, workers=-1)
    return np.isfinite(distance[:, 0])


def _at_length_1(values: Int8[np.ndarray, "m blocks"]) -> Float32[np.ndarray, "m blocks"]:
    vectors = values.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))  # in a quarter of np.linalg.norm's time
    return vectors / np.maximum(lengths, 1)[:, None]
