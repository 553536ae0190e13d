"""Where the labels of points go, so that none lies on another: the nearest free place, the most crowded point first."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from reliabit.metrics.functional.inputs import FloatArray

Box: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top."""

_STEP = 10.0
"""Distance of the places that are tried everywhere in the panel, beside those next to the point."""

_NEAR = 11.0
"""Distance of a label from its point where there is room."""

_COVERED = 0.5
"""What a covered unit of area costs, in units of distance: more than to go round a mark, less than across the panel."""

_TRIED = 150
"""How many of the nearest free places are looked at closely."""

_BEADS = 12
"""Boxes along the line from a point to its label, which other labels leave free."""


def place_labels(
    points: FloatArray, sizes: FloatArray, *, bounds: Box, obstacles: Sequence[Box] = ()
) -> list[Box | None]:
    """Find places for labels that do not overlap and lie within a panel.

    Args:
        points: Shape `(N, 2)`, in units of the screen.
        sizes: Shape `(N, 2)`, width and height of each label.
        bounds: The panel.
        obstacles: What labels had better not cover, such as marks and bars.

    Returns:
        A box for each label; `None` where there is no room for it.

    >>> place_labels(np.array([[50.0, 50.0]]), np.array([[20.0, 10.0]]), bounds=(0, 0, 100, 100))
    [(61.0, 45.0, 81.0, 55.0)]
    """
    found: list[Box | None] = [None] * len(points)
    taken, covered = np.empty((0, 4)), np.array(obstacles, dtype=np.float64).reshape(-1, 4)
    for index in _crowded_first(points, sizes):
        boxes = _candidates(points[index], sizes[index], bounds)
        free = ~(_overlap(boxes, taken) > 0).any(axis=1)
        if not free.any():
            continue
        boxes, away = boxes[free], _distance(points[index], boxes[free])
        near = np.argsort(away, kind="stable")[:_TRIED]
        boxes = boxes[near]
        cost = away[near] + _COVERED * _overlap(boxes, covered).sum(axis=1)
        best = boxes[np.argmin(cost)]
        found[index] = (float(best[0]), float(best[1]), float(best[2]), float(best[3]))
        taken = np.vstack([taken, best])
        covered = np.vstack([covered, _beads(points[index], nearest_edge(points[index], best))])
    return found


def nearest_edge(point: FloatArray, box: "FloatArray | Box") -> FloatArray:
    """The point of a box that is nearest.

    >>> nearest_edge(np.array([0.0, 0.0]), (3, -1, 5, 1)).tolist()
    [3.0, 0.0]
    """
    left, bottom, right, top = box
    return np.array([np.clip(point[0], left, right), np.clip(point[1], bottom, top)], dtype=np.float64)


def _crowded_first(points: FloatArray, sizes: FloatArray) -> list[int]:
    apart = np.abs(points[:, None] - points[None]) / sizes.max(axis=0, initial=1.0)
    neighbors = (apart.max(axis=2) < 1.5).sum(axis=1) if len(points) else np.empty(0)
    return [int(index) for index in np.lexsort((np.arange(len(points)), -neighbors))]


def _candidates(point: FloatArray, size: FloatArray, bounds: Box) -> FloatArray:
    """Boxes beside a point, right one first, and a grid of them, as far as they lie within the panel."""
    width, height = size
    left, bottom, right, top = bounds
    across = (_NEAR, -width - _NEAR, -width / 2, _NEAR / 2, -width - _NEAR / 2)
    along = (-height / 2, _NEAR / 2, -height - _NEAR / 2, _NEAR, -height - _NEAR)
    near = [(point[0] + x, point[1] + y) for x in across for y in along]
    grid = np.meshgrid(np.arange(left, right - width, _STEP), np.arange(bottom, top - height, _STEP))
    corners = np.vstack([near, np.stack(grid, axis=-1).reshape(-1, 2)])
    boxes = np.hstack([corners, corners + size])
    inside = (boxes[:, :2] >= (left, bottom)).all(axis=1) & (boxes[:, 2:] <= (right, top)).all(axis=1)
    # Nothing lies on its own point.
    beside = _overlap(boxes, np.array([[*(point - 3), *(point + 3)]]))[:, 0] == 0
    return np.asarray(boxes[inside & beside])


def _overlap(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """The area that boxes, shape `(N, 4)`, share with others, shape `(M, 4)`; shape `(N, M)`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))


def _distance(point: FloatArray, boxes: FloatArray) -> FloatArray:
    outside = np.maximum(boxes[:, :2] - point, point - boxes[:, 2:])
    return np.asarray(np.hypot(*np.clip(outside, 0, None).T))


def _beads(start: FloatArray, end: FloatArray) -> FloatArray:
    middles = start + np.linspace(0, 1, _BEADS)[:, None] * (end - start)
    return np.hstack([middles - 1.5, middles + 1.5])
