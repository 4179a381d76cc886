"""The fidelities at which a design may be tried, each with its cost.

Either they have names (a potential, DFT, the laboratory), which are sources of observations to a
surrogate, or the values of an axis (a mesh, an annealing time), which are features. One is
what is sought: only what was observed there counts for the front and the incumbent.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from loop.problem import Problem
    from loop.proposal import History

Design = dict[str, Any]


@dataclass(frozen=True)
class Fidelity:
    """One fidelity.

    Attributes:
        label: its name, or the value of the axis.
        cost: of one evaluation, above zero; only ratios count.
        source: its number among the sources of a history.
    """

    label: str | float
    cost: float
    source: int = 0


@dataclass(frozen=True)
class Left:
    """What is left of a budget; None = no limit.

    Attributes:
        trials: how many.
        cost: in the unit of the fidelities' costs.
    """

    trials: int | None = None
    cost: float | None = None


class Fidelities(ABC):
    """Those of a problem."""

    @property
    @abstractmethod
    def members(self) -> tuple[Fidelity, ...]:
        """Those that may be proposed; the first is what is sought."""

    @property
    def target(self) -> Fidelity:
        """What is sought."""
        return self.members[0]

    @property
    def sources(self) -> int:
        """How many sources of a history are this campaign's own."""
        return 1 + max(fidelity.source for fidelity in self.members)

    @abstractmethod
    def of_design(self, design: Design, source: int) -> Fidelity:
        """The fidelity at which a design of a source of this campaign was tried."""

    @abstractmethod
    def at(self, design: Design, fidelity: Fidelity) -> Design:
        """The design as it is tried at one of them."""

    def is_target(self, design: Design, source: int) -> bool:
        """Whether an observation counts for the front."""
        return source < self.sources and self.of_design(design, source) == self.target


@dataclass(frozen=True)
class NamedFidelities(Fidelities):
    """Those with names.

    Attributes:
        given: two or more, the first the one that is sought; their sources count from 0.

    Raises:
        ValueError: less than two, two of one name, a cost that is not above zero, or one of
            another that is not below that of the first.
    """

    given: tuple[Fidelity, ...]

    def __post_init__(self) -> None:
        names = [fidelity.label for fidelity in self.given]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"wanted two fidelities or more, each of its own name: got {names}")
        if [fidelity.source for fidelity in self.given] != list(range(len(names))):
            raise ValueError("the sources of fidelities count from 0")
        costs = [fidelity.cost for fidelity in self.given]
        if not all(math.isfinite(c) and c > 0 for c in costs):
            raise ValueError(f"costs are above zero, not {costs}")
        if max(costs[1:]) >= costs[0]:
            raise ValueError("what is sought costs more than every other fidelity")

    @classmethod
    def of(cls, costs: dict[str, float], target: str) -> NamedFidelities:
        """Of names with their costs."""
        names = [target, *(name for name in costs if name != target)]
        return cls(tuple(Fidelity(name, costs[name], i) for i, name in enumerate(names)))

    @property
    def members(self) -> tuple[Fidelity, ...]:
        """All of them."""
        return self.given

    def of_design(self, design: Design, source: int) -> Fidelity:
        """That of the source."""
        return self.given[source]

    def at(self, design: Design, fidelity: Fidelity) -> Design:
        """The same design."""
        return design


@dataclass(frozen=True)
class AxisFidelities(Fidelities):
    """The values of a range.

    Attributes:
        axis: its name.
        sought: the value that is sought.
        low, high: ends of the range.
        costs: at the low and at the high end; linear between them, in the logarithms of both on a
            log scale.
        log: whether the axis has a log scale.
        integer: whether its values are whole.
        steps: values of the grid that they are chosen from.

    Raises:
        ValueError: a cost that is not above zero, a value outside, or no value that costs half as
            much as the one that is sought.
    """

    axis: str
    sought: float
    low: float
    high: float
    costs: tuple[float, float]
    log: bool = False
    integer: bool = False
    steps: int = 11

    def __post_init__(self) -> None:
        if not all(math.isfinite(c) and c > 0 for c in self.costs):
            raise ValueError(f"{self.axis}: costs are above zero, not {self.costs}")
        if not self.low <= self.sought <= self.high:
            raise ValueError(f"{self.axis}: {self.sought} is not from {self.low} to {self.high}")
        if len(self.members) < 2:
            raise ValueError(f"{self.axis}: no value costs half as much as {self.sought:g} or less")

    def cost(self, value: float) -> float:
        """Of one evaluation; outside the range, as at its end."""
        value = min(max(value, self.low), self.high)
        a, b = self.costs
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
            return float(math.exp((1 - share) * math.log(a) + share * math.log(b)))
        share = (value - self.low) / (self.high - self.low)
        return (1 - share) * a + share * b

    @cached_property
    def members(self) -> tuple[Fidelity, ...]:
        """What is sought, then the values of a grid that cost half as much or less.

        A value just beside the one that is sought would tell almost as much for a little less, and
        so be chosen in its stead for ever.
        """
        spaced = np.geomspace if self.log else np.linspace
        grid = [float(v) for v in spaced(self.low, self.high, self.steps)]
        if self.integer:
            grid = [float(v) for v in sorted({round(v) for v in grid})]
        top = self.cost(self.sought)
        cheap = [Fidelity(v, self.cost(v)) for v in grid if self.cost(v) <= 0.5 * top]
        return (Fidelity(self.sought, top), *cheap)

    def of_design(self, design: Design, source: int) -> Fidelity:
        """That of the axis' value."""
        value = float(design[self.axis])
        if math.isclose(value, self.sought, rel_tol=1e-9, abs_tol=1e-9 * (self.high - self.low)):
            return self.target
        return Fidelity(value, self.cost(value))

    def at(self, design: Design, fidelity: Fidelity) -> Design:
        """The design with its value."""
        value = float(fidelity.label)
        return {**design, self.axis: round(value) if self.integer else value}


def sources_of(history: History) -> np.ndarray:
    """The n source numbers of a history; all 0 where it has none."""
    n = len(history.designs)
    return np.zeros(n, int) if history.source is None else np.asarray(history.source, int)


def pending_sources(history: History) -> np.ndarray:
    """The source numbers of what is being evaluated; all 0 where there are none."""
    n = len(history.pending)
    given = history.pending_source
    return np.zeros(n, int) if given is None else np.asarray(given, int)


def own(problem: Problem, source: np.ndarray) -> np.ndarray:
    """Which of n rows are this campaign's, at whatever fidelity: n booleans."""
    return source < (1 if problem.fidelities is None else problem.fidelities.sources)


def at_target(problem: Problem, designs: Sequence[Design], source: np.ndarray) -> np.ndarray:
    """Which of n rows are of what is sought, and so count: n booleans."""
    if problem.fidelities is None:
        return np.asarray(source == 0, dtype=bool)
    pairs = zip(designs, source, strict=True)
    return np.array([problem.fidelities.is_target(d, int(s)) for d, s in pairs], dtype=bool)


def only_target(problem: Problem, history: History) -> tuple[History, list[int]]:
    """The part of a history that counts, and its positions in the whole."""
    rows = np.flatnonzero(at_target(problem, history.designs, sources_of(history)))
    place = {int(row): i for i, row in enumerate(rows)}
    return dataclasses.replace(
        history,
        designs=[history.designs[i] for i in rows],
        outcomes=np.asarray(history.outcomes)[rows],
        sem=np.asarray(history.sem)[rows],
        failed=np.asarray(history.failed)[rows],
        realised={place[row]: made for row, made in history.realised.items() if row in place},
        source=None,
        errors=None if history.errors is None else np.asarray(history.errors)[rows],
        names=None if history.names is None else [history.names[i] for i in rows],
        members=None if history.members is None else [history.members[i] for i in rows],
        preferences=[
            (place[a], place[b]) for a, b in history.preferences if a in place and b in place
        ],
    ), rows.tolist()
