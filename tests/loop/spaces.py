"""Design spaces of every kind of axis but the latent one, drawn by hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from loop import (
    Axis,
    ChoiceAxis,
    CompositionAxis,
    Descriptors,
    Design,
    DesignSpace,
    LinearConstraint,
    RangeAxis,
)

POLARITY = Descriptors.of({v: {"polarity": i / 3, "same": 1.0} for i, v in enumerate("wxyz")})


@st.composite
def compositions(draw: st.DrawFn, name: str) -> CompositionAxis:
    k = draw(st.integers(2, 6))
    ingredients = tuple(f"{name}{i}" for i in range(k))
    total = draw(st.sampled_from([1.0, 100.0]))
    at_most = draw(st.none() | st.integers(1, k))
    step = draw(st.sampled_from([None, None, 0.1, 0.25])) if total == 1.0 else None
    bounds = {}
    if at_most != 1 and draw(st.booleans()):
        bounds[ingredients[0]] = (0.0, 0.3 * total)
    if at_most is None and draw(st.booleans()):
        bounds[ingredients[-1]] = (0.1 * total, total)
    if at_most == 2 and bounds:
        bounds = {ingredients[0]: (0.0, 0.3 * total)}
    if step == 0.25 and bounds:
        step = None
    return CompositionAxis(name, ingredients, at_most, bounds, total, step, "")


def axes(name: str) -> st.SearchStrategy[Axis]:
    return st.one_of(
        st.builds(
            lambda low, width: RangeAxis(name, low, low + width, unit="K"),
            st.floats(-1e3, 1e3),
            st.floats(1e-2, 1e3),
        ),
        st.builds(lambda n: RangeAxis(name, 1, 1 + n, integer=True), st.integers(1, 12)),
        st.just(RangeAxis(name, 1e-3, 1e3, log=True)),
        st.just(RangeAxis(name, 1, 64, log=True, integer=True)),
        st.just(ChoiceAxis(name, (1, 2, 4, 8.5))),
        st.just(ChoiceAxis(name, ("x", "y", "z"), POLARITY, ("w",))),
        compositions(name),
    )


def numbers(space: DesignSpace, design: Design) -> dict[str, float]:
    """The numbers of a design by the full names of coordinates."""
    found: dict[str, float] = {}
    for axis in space.axes:
        value: Any = design[axis.name]
        if isinstance(axis, CompositionAxis):
            found |= {f"{axis.name}.{i}": amount for i, amount in value.items()}
        elif axis.coordinates:
            found[axis.name] = float(value)
    return found


@st.composite
def spaces(draw: st.DrawFn) -> DesignSpace:
    """One to three axes, and up to three constraints that a design of the space meets."""
    count = draw(st.integers(1, 3))
    free = DesignSpace(tuple(draw(axes(name)) for name in "abc"[:count]))
    if not free.coordinates:
        return free
    seed = draw(st.integers(0, 2**16))
    design = free.decode(free.prior(1, np.random.default_rng(seed)))[0]
    assert design is not None
    at = numbers(free, design)
    constraints = []
    for _ in range(draw(st.integers(0, 3))):
        names = draw(
            st.lists(st.sampled_from(free.coordinates), min_size=1, max_size=4, unique=True)
        )
        factors = {name: draw(st.sampled_from([-2.0, -1.0, 1.0, 1.0, 2.5])) for name in names}
        value = sum(factor * at[name] for name, factor in factors.items())
        op = draw(st.sampled_from(["<=", ">=", "=="]))
        slack = 0.0 if op == "==" else draw(st.floats(0, 0.2)) * abs(value)
        bound = value + slack if op == "<=" else value - slack
        constraints.append(LinearConstraint(factors, op, bound))
    return DesignSpace(free.axes, tuple(constraints))
