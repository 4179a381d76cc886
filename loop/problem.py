"""What a campaign asks for, in plain numbers: the design space, the goals and the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loop.fidelities import AxisFidelities, Fidelities
from loop.space import DesignSpace

Goal = Literal["maximize", "minimize", "target", "level"]


@dataclass(frozen=True)
class Objective:
    """A metric with a direction.

    Attributes:
        metric: its name.
        goal: which way is better; `target` means as close to `target` as can be. Of a `level` no
            design is best: sought is where the metric crosses it (see `level`). The nearest to it
            counts as the best where one has to be named.
        unit: of every number here (pint's spelling).
        threshold: the worst value still worth having, and for a target the largest distance from
            it. Hypervolume counts from here. None = inferred from the outcomes.
        target: the value wanted, where the goal is a target; the level, where it is that.
        tolerance: distance from the target that is as good as none.

    Raises:
        ValueError: a target or level without a value, a value without those, or a negative
            distance.
    """

    metric: str
    goal: Goal
    unit: str
    threshold: float | None = None
    target: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.goal not in ("maximize", "minimize", "target", "level"):
            raise ValueError(f"{self.metric}: no such goal as {self.goal!r}")
        if (self.goal in ("target", "level")) != (self.target is not None):
            raise ValueError(
                f"{self.metric}: a target value goes with the goals 'target' and 'level' and no"
                " other"
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
class PredictedBound:
    """A bound on what a predictor says of a crystal: `name op bound`, in the predictor's unit.

    Attributes:
        name: as it was written, for whoever reads why a design was refused.
        predictor: see `generators.crystals.predictors`.
        metric: which of its properties.
    """

    name: str
    predictor: str
    metric: str
    op: Literal["<=", ">="]
    bound: float
    unit: str


@dataclass(frozen=True)
class ScreenRules:
    """Which crystals may be proposed at all.

    Attributes:
        include: element symbols, no others are allowed. None = all.
        exclude: element symbols that are not allowed.
        charge_neutral: only compositions that oxidation states can balance (or alloys of metals).
        max_atoms: largest number of sites in the cell. None = no limit.
        predicted: what predictors must say of a crystal.
        steady: only designs that the generators of latent axes find steady.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    charge_neutral: bool = False
    max_atoms: int | None = None
    predicted: tuple[PredictedBound, ...] = ()
    steady: bool = False


@dataclass(frozen=True)
class Problem:
    """A design problem: where to look, what to want, what to respect.

    Attributes:
        space: where to look.
        objectives: what to want.
        constraints: what to respect.
        screen: which crystals may be proposed.
        fidelities: those at which a design may be tried; None = there is one.

    Raises:
        ValueError: no objective, two objectives on one metric, or fidelities on no axis.
    """

    space: DesignSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[OutcomeConstraint, ...] = ()
    screen: ScreenRules = ScreenRules()
    fidelities: Fidelities | None = None

    def __post_init__(self) -> None:
        names = [o.metric for o in self.objectives]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"wanted one objective or more, each on its own metric: got {names}")
        if isinstance(self.fidelities, AxisFidelities) and self.fidelities.axis not in [
            axis.name for axis in self.space.axes
        ]:
            raise ValueError(f"there is no axis {self.fidelities.axis!r} to have fidelities")

    @property
    def contour(self) -> bool:
        """Whether levels are sought: where a metric crosses a value, not where it is best."""
        return any(o.goal == "level" for o in self.objectives)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that has to be known: the objectives', then the constraints', each once."""
        names = [o.metric for o in self.objectives] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))
