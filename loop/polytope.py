"""The nearest point of a polytope, and random points of it, for many points at once.

A polytope here is a box cut by m linear constraints, and the box may differ from point to point.
One constraint is solved exactly by the breakpoints of its multiplier, as projections onto a simplex
are; several by ascent over their multipliers [Bertsekas]_, one after the other and by Newton's
method together, and what does not converge by least-distance programming [LawsonHanson]_.

.. [Bertsekas] D. P. Bertsekas, Nonlinear Programming, 2nd edition, 1999, section 6.
.. [LawsonHanson] C. L. Lawson and R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 60
_DONE = 1e-11
_MET = 1e-8


def nearest(
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    equal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The points of n polytopes that are nearest to n points.

    Args:
        x: n x d points.
        low: n x d (or d) lower bounds, at most `high`.
        high: n x d (or d) upper bounds.
        A: n x m x d (or m x d) coefficients: A x <= b.
        b: n x m (or m).
        equal: m booleans: A x == b for these.

    Returns:
        n x d points, and n booleans: whether there is such a point. Where there is none, the point
        is one of the box.
    """
    n, d = x.shape
    m = A.shape[-2]
    low, high = np.broadcast_to(low, (n, d)), np.broadcast_to(high, (n, d))
    A, b = np.broadcast_to(A, (n, m, d)), np.broadcast_to(b, (n, m))
    if m == 0:
        return np.clip(x, low, high), np.ones(n, dtype=bool)
    if m == 1:
        multiplier = _multiplier(x, low, high, A[:, 0], b[:, 0], bool(equal[0]))
        points = np.clip(x - multiplier[:, None] * A[:, 0], low, high)
        return points, _violation(points, A, b, equal) <= _MET
    multipliers = np.zeros((n, m))
    left = np.arange(n)
    for _ in range(_ROUNDS):
        part = (x[left], low[left], high[left], A[left], b[left], equal)
        tried, far = _ascend(multipliers[left], *part)
        jump, closer = _newton(tried, *part)
        better = closer < far
        multipliers[left] = np.where(better[:, None], jump, tried)
        left = left[np.where(better, closer, far) > _DONE]
        if not len(left):
            break
    points = np.clip(x - np.einsum("nm,nmd->nd", multipliers, A), low, high)
    met = np.ones(n, dtype=bool)
    for row in left:
        points[row], met[row] = _least_distance(x[row], low[row], high[row], A[row], b[row], equal)
    return points, met


def _residual(
    multipliers: np.ndarray,
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    equal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Excess of each constraint (n x m), how far from optimal (n), and which coordinates move."""
    moved = x - np.einsum("nm,nmd->nd", multipliers, A)
    excess = np.einsum("nmd,nd->nm", A, np.clip(moved, low, high)) - b
    off = np.where(equal, excess, -np.minimum(multipliers, -excess))
    return excess, np.abs(off).max(axis=1), (moved > low) & (moved < high)


def _ascend(multipliers: np.ndarray, *part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One multiplier after the other made right, given the rest; and how far from optimal."""
    x, low, high, A, b, equal = part
    multipliers = multipliers.copy()
    moved = x - np.einsum("nm,nmd->nd", multipliers, A)
    for j in range(len(equal)):
        moved += multipliers[:, j, None] * A[:, j]
        multipliers[:, j] = _multiplier(moved, low, high, A[:, j], b[:, j], bool(equal[j]))
        moved -= multipliers[:, j, None] * A[:, j]
    return multipliers, _residual(multipliers, *part)[1]


def _newton(multipliers: np.ndarray, *part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All multipliers at once, as if no other coordinate met a bound; and how far from optimal."""
    A, equal = part[3], part[5]
    excess, _, free = _residual(multipliers, *part)
    active = equal | (multipliers + excess > 0)
    inner = A * free[:, None, :]
    curvature = np.einsum("nmd,nkd->nmk", inner, inner)
    both = active[:, :, None] & active[:, None, :]
    unit = np.eye(len(equal))
    curvature = np.where(both, curvature + 1e-13 * unit, unit)
    step = np.linalg.solve(curvature, np.where(active, excess, -multipliers)[:, :, None])[:, :, 0]
    jump = multipliers + step
    jump = np.where(equal, jump, np.maximum(jump, 0.0))
    return jump, _residual(jump, *part)[1]


def _violation(x: np.ndarray, A: np.ndarray, b: np.ndarray, equal: np.ndarray) -> np.ndarray:
    excess = np.einsum("nmd,nd->nm", A, x) - b
    return np.where(equal, np.abs(excess), np.maximum(excess, 0.0)).max(axis=1, initial=0.0)


def _multiplier(
    x: np.ndarray, low: np.ndarray, high: np.ndarray, a: np.ndarray, b: np.ndarray, equal: bool
) -> np.ndarray:
    """The multiplier t of one constraint: a . clip(x - t a, low, high) == b, for n points.

    The left side falls in t, along straight lines between the values of t at which a coordinate
    meets a bound; those are sorted and the right line is found. For an inequality t is not
    negative.
    """
    n, d = x.shape
    used = a != 0.0
    safe = np.where(used, a, 1.0)
    ends = np.stack([(x - high) / safe, (x - low) / safe])
    ends.sort(axis=0)
    slope = np.where(used, a * a, 0.0)
    breaks = np.where(used, ends, np.inf).reshape(2, n, d).transpose(1, 0, 2).reshape(n, 2 * d)
    change = np.concatenate([-slope, slope], axis=1)
    order = np.argsort(breaks, axis=1, kind="stable")
    breaks = np.take_along_axis(breaks, order, axis=1)
    slopes = np.cumsum(np.take_along_axis(change, order, axis=1), axis=1)
    finite = np.isfinite(breaks)
    steps = np.where(finite[:, 1:], np.diff(np.where(finite, breaks, 0.0), axis=1), 0.0)
    top = np.where(a > 0, a * high, a * low).sum(axis=1)
    falls = np.concatenate(
        [top[:, None], top[:, None] + np.cumsum(slopes[:, :-1] * steps, axis=1)], axis=1
    )
    # The last break at which the left side is still b or more; the line from there meets b.
    last = np.maximum(finite.sum(axis=1) - 1, 0)
    at = np.minimum(np.maximum((falls >= b[:, None]).sum(axis=1) - 1, 0), last)
    rows = np.arange(n)
    start, slope_at = breaks[rows, at], slopes[rows, at]
    start = np.where(np.isfinite(start), start, 0.0)
    gap = falls[rows, at] - b
    step = np.where(slope_at < -1e-300, gap / np.where(slope_at < -1e-300, -slope_at, 1.0), 0.0)
    found = start + np.maximum(step, 0.0)
    return found if equal else np.maximum(found, 0.0)


def _least_distance(
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    equal: np.ndarray,
) -> tuple[np.ndarray, bool]:
    """`nearest` for one point, by non-negative least squares."""
    from scipy.optimize import nnls

    d = len(x)
    G = np.vstack([np.eye(d), -np.eye(d), -A, A[equal]])
    h = np.concatenate([low - x, x - high, A @ x - b, b[equal] - A[equal] @ x])
    E = np.vstack([G.T, h[None]])
    target = np.zeros(d + 1)
    target[-1] = 1.0
    try:
        u, _ = nnls(E, target)
    except RuntimeError:  # it did not converge
        return np.clip(x, low, high), False
    residual = E @ u - target
    if abs(residual[-1]) < 1e-12:
        return np.clip(x, low, high), False
    point = np.clip(x - residual[:-1] / residual[-1], low, high)
    return point, bool(_violation(point[None], A[None], b[None], equal)[0] <= _MET)


def hit_and_run(
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    equal: np.ndarray,
    *,
    steps: int,
    rng: np.random.Generator,
    log: np.ndarray | None = None,
) -> np.ndarray:
    """Move n points of n polytopes towards independent uniform draws from them [Smith1984]_.

    Args:
        x: n x d points, inside.
        low: as `nearest`; where low is high a coordinate stays.
        high: as `nearest`.
        A: as `nearest`.
        b: as `nearest`.
        equal: as `nearest`.
        steps: moves of each point.
        rng: the draws.
        log: d booleans: coordinates (above zero) that are to be uniform in their logarithm.

    .. [Smith1984] R. L. Smith, Efficient Monte Carlo procedures for generating points uniformly
       distributed over bounded regions. Operations Research 32, 1296, 1984.
    """
    n, d = x.shape
    m = A.shape[-2]
    low, high = np.broadcast_to(low, (n, d)), np.broadcast_to(high, (n, d))
    A, b = np.broadcast_to(A, (n, m, d)), np.broadcast_to(b, (n, m))
    free = (high > low).astype(np.float64)
    span = np.where(free > 0, high - low, 0.0)
    E = A[:, equal] * span[:, None]
    back = np.linalg.pinv(E) if equal.any() and n else None
    x = x.copy()
    for _ in range(steps):
        along = rng.standard_normal((n, d)) * free
        if back is not None:
            along -= np.einsum("ndm,nme,ne->nd", back, E, along)
            along *= free
        along *= span
        with np.errstate(divide="ignore", invalid="ignore"):
            to_low, to_high = (low - x) / along, (high - x) / along
            walls = np.einsum("nmd,nd->nm", A[:, ~equal], along)
            room = b[:, ~equal] - np.einsum("nmd,nd->nm", A[:, ~equal], x)
            to_wall = np.maximum(room, 0.0) / walls
        moving = np.abs(along) > 1e-12
        ahead = np.where(moving, np.maximum(to_low, to_high), np.inf).min(axis=1, initial=np.inf)
        behind = np.where(moving, np.minimum(to_low, to_high), -np.inf).max(axis=1, initial=-np.inf)
        ahead = np.minimum(
            ahead, np.where(walls > 1e-12, to_wall, np.inf).min(axis=1, initial=np.inf)
        )
        behind = np.maximum(
            behind, np.where(walls < -1e-12, to_wall, -np.inf).max(axis=1, initial=-np.inf)
        )
        go = np.isfinite(ahead) & np.isfinite(behind) & (ahead > behind)
        ahead, behind = np.where(go, ahead, 0.0), np.where(go, behind, 0.0)
        step = behind + (ahead - behind) * rng.random(n)
        moved = np.clip(x + step[:, None] * along, low, high)
        if log is not None and log.any():
            # Uniform in the logarithm means a density of one over the value: Metropolis' rule.
            chance = np.log(x[:, log]).sum(axis=1) - np.log(moved[:, log]).sum(axis=1)
            go = np.log(rng.random(n)) < chance
            moved = np.where(go[:, None], moved, x)
        x = moved
    return x
