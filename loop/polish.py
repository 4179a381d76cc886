"""The last steps of a search: uphill on the gradient, where designs move continuously.

Every step is brought back to what constraints allow (projected gradient ascent with the step sizes
of Adam), all starts at once; a sequential-quadratic solver that takes starts one by one needs many
times as long where there is a constraint. Coordinates that a constraint ties share a step size:
scaled one by one, a step would leave a face of the constraint at all but a right angle, and the way
back would undo it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from loop.space import DesignSpace

Differentiable = Callable[[Tensor], Tensor]

_STEP = 0.04
_DECAY = (0.9, 0.999)
_STEEP = 1e100  # a slope whose square is still a number


def polish(
    space: DesignSpace, codes: np.ndarray, score: Differentiable, steps: int, like: Tensor
) -> np.ndarray:
    """Move codes uphill.

    Args:
        space: with features that follow from codes.
        codes: s x width, allowed.
        score: s x f raw features to s numbers, differentiable; larger is better.
        steps: how many.
        like: a tensor of the dtype and on the device to compute with.

    Returns:
        s x width allowed codes: of every start the best that it came by.
    """
    if not len(codes) or not space.smooth or steps < 1:
        return codes
    code_columns = [c for c, _ in space.smooth]
    feature_columns = [f for _, f in space.smooth]
    here, best = codes.copy(), codes.copy()
    best_value = np.full(len(codes), -np.inf)
    first, second = (np.zeros((len(codes), len(code_columns))) for _ in range(2))
    tied = [[k for k, c in enumerate(code_columns) if c in together] for together in space.tied]
    tied = [columns for columns in tied if columns]
    for step in range(steps + 1):
        X = torch.as_tensor(space.features_at(here)).to(like).requires_grad_(True)
        value = score(X)
        (slope,) = torch.autograd.grad(value.sum(), X)
        found = value.detach().cpu().numpy()
        better = found > best_value
        best[better], best_value[better] = here[better], found[better]
        if step == steps:
            break
        gradient = np.nan_to_num(slope.cpu().numpy()[:, feature_columns]).clip(-_STEEP, _STEEP)
        first = _DECAY[0] * first + (1 - _DECAY[0]) * gradient
        square = gradient**2
        for columns in tied:
            square[:, columns] = square[:, columns].mean(axis=1, keepdims=True)
        second = _DECAY[1] * second + (1 - _DECAY[1]) * square
        size = _STEP * (1.0 - step / (steps + 1))
        move = (first / (1 - _DECAY[0] ** (step + 1))) / (
            np.sqrt(second / (1 - _DECAY[1] ** (step + 1))) + 1e-9
        )
        here = here.copy()
        here[:, code_columns] += size * move
        here = space.project(here)
    return best
