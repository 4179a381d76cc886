"""What a campaign asks for, in plain numbers: the design space, the goals and the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loop.space import DesignSpace

Goal = Literal["maximize", "minimize", "target"]


@dataclass(frozen=True)
class Objective:
    """A metric with a direction.

    Attributes:
        metric: its name.
        goal: which way is better; `target` means as close to `target` as can be.
        unit: of every number here (pint's spelling).
        threshold: the worst value still worth having, and for a target the largest distance from
            it. Hypervolume counts from here. None = inferred from the outcomes.
        target: the value wanted, where the goal is a target.
        tolerance: distance from the target that is as good as none, for reports.

    Raises:
        ValueError: a target without a value, a value without a target, or a negative distance.
    """

    metric: str
    goal: Goal
    unit: str
    threshold: float | None = None
    target: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.goal not in ("maximize", "minimize", "target"):
            raise ValueError(f"{self.metric}: no such goal as {self.goal!r}")
        if (self.goal == "target") != (self.target is not None):
            raise ValueError(
                f"{self.metric}: a target value goes with the goal 'target' and no other"
            )
        distances = (self.tolerance, self.threshold if self.goal == "target" else None)
        if any(d is not None and d < 0 for d in distances):
            raise ValueError(f"{self.metric}: a distance from the target cannot be negative")


@dataclass(frozen=True)
class OutcomeConstraint:
    """A bound on a metric: `metric op bound`, in `unit`."""

    metric: str
    op: Literal["<=", ">="]
    bound: float
    unit: str

    def __post_init__(self) -> None:
        if self.op not in ("<=", ">="):
            raise ValueError(f"{self.metric}: no such bound as {self.op!r}, only <= and >=")


@dataclass(frozen=True)
class ScreenRules:
    """Which crystals may be proposed at all.

    Attributes:
        include: element symbols, no others are allowed. None = all.
        exclude: element symbols that are not allowed.
        charge_neutral: only compositions that oxidation states can balance (or alloys of metals).
        max_atoms: largest number of sites in the cell. None = no limit.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    charge_neutral: bool = False
    max_atoms: int | None = None


@dataclass(frozen=True)
class Problem:
    """A design problem: where to look, what to want, what to respect.

    Raises:
        ValueError: no objective, or two objectives on one metric.
    """

    space: DesignSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[OutcomeConstraint, ...] = ()
    screen: ScreenRules = ScreenRules()

    def __post_init__(self) -> None:
        names = [o.metric for o in self.objectives]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"wanted one objective or more, each on its own metric: got {names}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that has to be known: the objectives', then the constraints', each once."""
        names = [o.metric for o in self.objectives] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))
