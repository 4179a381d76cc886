"""Designs as flat named parameters, which is what other optimisers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loop.problem import Problem
from loop.space import Axis, ChoiceAxis, CompositionAxis, Design, PoolAxis, RangeAxis


@dataclass(frozen=True)
class Number:
    """A parameter that is a number.

    Attributes:
        name: `temperature`, or `alloy.Fe` of a composition.
        low: smallest value in the table.
        high: largest.
        log: whether its scale is logarithmic.
        integer: whether it is a whole number.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Category:
    """A parameter that is one of some values.

    Attributes:
        name: of the axis.
        values: those in the table, as text.
        descriptors: for each value d numbers that describe it (values x d); None = none.
        names: of the d descriptors.
    """

    name: str
    values: tuple[str, ...]
    descriptors: np.ndarray | None = None
    names: tuple[str, ...] = ()


Parameter = Number | Category


def flatten(
    problem: Problem, designs: Sequence[Design]
) -> tuple[list[Parameter], list[dict[str, Any]]]:
    """Parameters of a table, and each design as a value for each of them.

    A range is a number, a choice a category, a composition a number for each ingredient, a pool its
    columns; any other axis is its features. Bounds are those of the table, so that nobody searches
    where nothing is; parameters that never vary are left out.
    """
    parameters: list[Parameter] = []
    rows: list[dict[str, Any]] = [{} for _ in designs]
    for axis in problem.space.axes:
        values = [design[axis.name] for design in designs]
        if isinstance(axis, ChoiceAxis):
            known = tuple(dict.fromkeys(values))
            if len(known) > 1:
                parameters.append(_category(axis, known))
                for row, value in zip(rows, values, strict=True):
                    row[axis.name] = str(value)
            continue
        log = isinstance(axis, RangeAxis) and axis.log
        integer = isinstance(axis, RangeAxis) and axis.integer
        for name, column in _columns(axis, values).items():
            if len(set(column)) < 2:
                continue
            if any(isinstance(cell, str) for cell in column):
                parameters.append(Category(name, tuple(dict.fromkeys(map(str, column)))))
                cells: list[Any] = list(map(str, column))
            else:
                ends = float(min(column)), float(max(column))
                parameters.append(Number(name, *ends, log, integer))
                cells = [int(x) if integer else float(x) for x in column]
            for row, cell in zip(rows, cells, strict=True):
                row[name] = cell
    return parameters, rows


def _columns(axis: Axis, values: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
    """The values of an axis, column by column."""
    if isinstance(axis, RangeAxis):
        return {axis.name: values}
    if isinstance(axis, CompositionAxis):
        return {f"{axis.name}.{i}": [value[i] for value in values] for i in axis.ingredients}
    if isinstance(axis, PoolAxis):
        return {f"{axis.name}.{c}": [value[c] for value in values] for c in axis.table.columns}
    return dict(zip(axis.feature_names, axis.features(values).T, strict=True))


def _category(axis: ChoiceAxis, known: tuple[Any, ...]) -> Category:
    """A choice with the numbers that describe its values: those features that are not one-hot."""
    one_hot = {f"{axis.name}={value}" for value in axis.values + axis.retired}
    kept = [i for i, name in enumerate(axis.feature_names) if name not in one_hot]
    table = axis.features(known)[:, kept]
    varied = [j for j in range(len(kept)) if np.ptp(table[:, j]) > 0]
    texts = tuple(map(str, known))
    if not varied:
        return Category(axis.name, texts)
    names = tuple(axis.feature_names[kept[j]] for j in varied)
    return Category(axis.name, texts, table[:, varied], names)
