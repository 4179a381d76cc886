"""Design spaces: products of axes, each of which knows how to be searched.

A design is a dict from axis name to value. Beside its values every axis has a *code*, a short
vector of numbers in which the search moves: the latent vector of a generator, a position between 0
and 1 in a range, the index of a choice, fractions of a composition, the row of a pool. Codes are
where moves are made; what a surrogate sees are the *features* of the decoded value, never the code
it was decoded from.

Another kind of axis is another subclass of `Axis`: nothing else here, or in the search, asks which.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from loop.axes.base import Axis as Axis
from loop.axes.choices import ChoiceAxis as ChoiceAxis
from loop.axes.composition import CompositionAxis as CompositionAxis
from loop.axes.descriptors import Descriptors as Descriptors
from loop.axes.latent import LatentAxis as LatentAxis
from loop.axes.pools import PoolAxis as PoolAxis
from loop.axes.ranges import RangeAxis as RangeAxis
from loop.constraints import Infeasible as Infeasible
from loop.constraints import LinearConstraint as LinearConstraint
from loop.coupled import Coupled

Design = dict[str, Any]
"""One point of a design space: a value for each axis."""


@dataclass(frozen=True)
class DesignSpace:
    """A product of axes, of which linear constraints may cut off parts.

    Attributes:
        axes: the factors.
        constraints: what every proposed design meets. What was observed need not.

    Raises:
        ValueError: no axis, two of one name, or a constraint on what no axis has.
        Infeasible: the constraints exclude everything.
    """

    axes: tuple[Axis, ...]
    constraints: tuple[LinearConstraint, ...] = ()

    def __post_init__(self) -> None:
        names = [a.name for a in self.axes]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"wanted one axis or more, each of its own name: got {names}")
        if self.constraints:
            object.__setattr__(self, "axes", tuple(self._cut_pool(axis) for axis in self.axes))
            _ = self._factors  # says at once where the constraints exclude everything

    def _cut_pool(self, axis: Axis) -> Axis:
        """A pool without the rows that constraints exclude: those are simply never proposed."""
        if not isinstance(axis, PoolAxis):
            return axis
        mine: list[LinearConstraint] = []
        for constraint in self.constraints:
            coefficients = self._full(constraint)
            others = [name for name in coefficients if name not in axis.coordinates]
            if len(others) == len(coefficients):
                continue
            if others:
                raise ValueError(
                    f"{str(constraint)!r} is of the pool {axis.name} and of {', '.join(others)}: a"
                    " constraint on a pool is on its columns alone"
                )
            mine.append(constraint)
            left = axis.restricted(coefficients, constraint.op, constraint.bound)
            if left is None:
                raise Infeasible(mine)
            axis = left
        return axis

    @cached_property
    def _factors(self) -> list[tuple[tuple[int, ...], Axis | Coupled]]:
        """The axes and what constraints couple of them: columns of the codes, and the factor."""
        full = [
            (coefficients, c)
            for c, coefficients in ((c, self._full(c)) for c in self.constraints)
            if not any(isinstance(a, PoolAxis) and {*a.coordinates} & {*coefficients}
                       for a in self.axes)
        ]  # fmt: skip
        owner = {name: i for i, axis in enumerate(self.axes) for name in axis.coordinates}
        group = list(range(len(self.axes)))
        for coefficients, _ in full:
            touched = {group[owner[name]] for name in coefficients}
            group = [min(touched) if g in touched else g for g in group]
        coupled = {group[owner[name]] for coefficients, _ in full for name in coefficients}
        ends = np.cumsum([0, *(a.width for a in self.axes)])
        factors: list[tuple[tuple[int, ...], Axis | Coupled]] = []
        for g in sorted(set(group)):
            members = [i for i, other in enumerate(group) if other == g]
            columns = tuple(c for i in members for c in range(ends[i], ends[i + 1]))
            if g not in coupled:
                factors.append((columns, self.axes[g]))
                continue
            own = [
                LinearConstraint(coefficients, c.op, c.bound, str(c))
                for coefficients, c in full
                if group[owner[next(iter(coefficients))]] == g
            ]
            factors.append((columns, Coupled([self.axes[i] for i in members], own)))
        return factors

    def _full(self, constraint: LinearConstraint) -> dict[str, float]:
        """Coefficients of a constraint by the full names of coordinates."""
        full: dict[str, float] = {}
        for name, factor in constraint.coefficients.items():
            if factor:
                found = self.coordinate(name)
                full[found] = full.get(found, 0.0) + factor
        return full

    @cached_property
    def coordinates(self) -> tuple[str, ...]:
        """Full names of the numbers that constraints may speak of."""
        return tuple(name for axis in self.axes for name in axis.coordinates)

    def coordinate(self, name: str) -> str:
        """The full name of a number: `alloy.Fe` of `Fe`, where only one axis has that.

        Raises:
            ValueError: there is none, or more than one.
        """
        if name in self.coordinates:
            return name
        found = [full for full in self.coordinates if full.partition(".")[2] == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{name!r} may be {' or '.join(found)}")
        raise ValueError(f"no axis has a number {name!r}, only {', '.join(self.coordinates)}")

    @property
    def width(self) -> int:
        """Numbers in a code."""
        return sum(a.width for a in self.axes)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The f columns of `features`."""
        return tuple(f for a in self.axes for f in a.feature_names)

    @cached_property
    def feature_units(self) -> dict[str, str]:
        """Units of those features that have one that is known."""
        return {f: unit for a in self.axes for f, unit in a.feature_units.items()}

    @cached_property
    def feature_groups(self) -> tuple[int, ...]:
        """For each of the f features the number of its group (see `Axis.groups`)."""
        groups: list[int] = []
        for axis in self.axes:
            first = max(groups, default=-1) + 1
            groups += [first + g for g in axis.groups]
        return tuple(groups)

    @cached_property
    def smooth(self) -> tuple[tuple[int, int], ...]:
        """Pairs (code column, feature column) of coordinates whose feature is their code.

        While these move, all other features of a design stay.
        """
        pairs: list[tuple[int, int]] = []
        code = feature = 0
        for axis in self.axes:
            pairs += [(code + c, feature + f) for c, f in axis.smooth]
            code, feature = code + axis.width, feature + len(axis.feature_names)
        return tuple(pairs)

    @cached_property
    def tied(self) -> tuple[tuple[int, ...], ...]:
        """Columns of the codes that cannot move one by one: of a composition, of a constraint."""
        return tuple(columns for columns, _ in self._factors if len(columns) > 1)

    @property
    def direct(self) -> bool:
        """Whether features follow from codes without decoding (no axis is latent)."""
        return all(a.direct for a in self.axes)

    @property
    def size(self) -> int | None:
        """How many designs there are, those that constraints exclude too; None if uncountable."""
        size = 1
        for axis in self.axes:
            if axis.size is None:
                return None
            size *= axis.size
        return size

    def codes_at(self, indices: np.ndarray) -> np.ndarray:
        """Codes of the designs number 0 to `size` - 1: n x width; the last axis turns fastest.

        Not all need be `allowed`.

        Raises:
            TypeError: they cannot be counted.
            IndexError: a number outside.
        """
        if self.size is None:
            raise TypeError("the designs of this space cannot be counted")
        left = np.asarray(indices)
        if len(left) and (int(left.min()) < 0 or int(left.max()) >= self.size):
            raise IndexError(f"the space has {self.size} designs")
        parts: list[np.ndarray] = []
        for axis in reversed(self.axes):
            assert axis.size is not None
            left, here = left // axis.size, left % axis.size
            parts.append(axis.codes_at(here))
        return np.hstack(parts[::-1])

    def features(self, designs: Sequence[Design]) -> np.ndarray:
        """What a surrogate sees of n designs: n x f.

        Raises:
            EncodeError: a design lies outside what an axis can represent.
        """
        if not designs:
            return np.empty((0, len(self.feature_names)))
        return np.hstack([a.features([d[a.name] for d in designs]) for a in self.axes])

    def features_at(self, codes: np.ndarray) -> np.ndarray:
        """`features` of what n codes decode to, without decoding them: n x f.

        Raises:
            TypeError: an axis is latent.
        """
        parts = zip(self.axes, self._split(codes), strict=True)
        return np.hstack([a.features_at(c) for a, c in parts])

    def encode(self, designs: Sequence[Design]) -> np.ndarray:
        """Codes of n designs: n x width. Raises `EncodeError` as `features`."""
        if not designs:
            return np.empty((0, self.width))
        return np.hstack([a.encode([d[a.name] for d in designs]) for a in self.axes])

    def decode(self, codes: np.ndarray, seed: int = 0) -> list[Design | None]:
        """Designs of n x width codes; None where an axis decodes to nothing."""
        parts = [a.decode(c, seed) for a, c in zip(self.axes, self._split(codes), strict=True)]
        return self._join(parts)

    def sample(self, n: int, seed: int = 0) -> list[Design | None]:
        """Draw n designs from the prior of every axis; None where a draw failed.

        Axes that constraints couple are drawn together.
        """
        seeds = np.random.SeedSequence(seed).generate_state(len(self._factors))
        values: dict[str, list[Any | None]] = {}
        for (_, factor), s in zip(self._factors, seeds, strict=True):
            if isinstance(factor, Coupled):
                codes = factor.prior(n, np.random.default_rng(s))
                parts = np.split(codes, np.cumsum([a.width for a in factor.axes])[:-1], axis=1)
                for axis, part in zip(factor.axes, parts, strict=True):
                    values[axis.name] = axis.decode(part, int(s))
            else:
                values[factor.name] = factor.sample(n, int(s))
        return self._join([values[a.name] for a in self.axes])

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n allowed codes from the prior: n x width."""
        codes = np.empty((n, self.width))
        for columns, factor in self._factors:
            codes[:, columns] = factor.prior(n, rng)
        return codes

    def project(self, codes: np.ndarray) -> np.ndarray:
        """Move n x width codes to the nearest allowed ones; allowed ones stay as they are.

        Ranges are clipped to 0 to 1, compositions meet their total, bounds and number of
        ingredients, and the constraints are met. Latent codes are all allowed.
        """
        moved = np.array(codes, dtype=np.float64)
        for columns, factor in self._factors:
            moved[:, columns] = factor.project(moved[:, columns])
        return moved

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether each of n codes may be proposed: n booleans."""
        good = np.ones(len(codes), dtype=bool)
        for columns, factor in self._factors:
            good &= factor.allowed(codes[:, columns])
        return good

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move n codes by n step sizes between 0 and 1, to allowed ones."""
        parts = zip(self.axes, self._split(codes), strict=True)
        return self._met(np.hstack([a.jitter(c, scale, rng) for a, c in parts]))

    def mix(self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Allowed codes between n pairs of codes, axis by axis."""
        parts = zip(self.axes, self._split(a), self._split(b), strict=True)
        return self._met(np.hstack([axis.mix(x, y, rng) for axis, x, y in parts]))

    def _met(self, codes: np.ndarray) -> np.ndarray:
        """Codes that every axis allows, moved to where the constraints are met too."""
        for columns, factor in self._factors:
            if isinstance(factor, Coupled):
                codes[:, columns] = factor.project(codes[:, columns])
        return codes

    def to_json(self, design: Design) -> dict[str, Any]:
        """A design as JSON-able data: axis name to number, string or dict."""
        return {a.name: a.to_json(design[a.name]) for a in self.axes}

    def from_json(self, data: dict[str, Any]) -> Design:
        """The design that `to_json` wrote.

        Raises:
            ValueError: an axis is missing, unknown or has a value that it cannot have.
        """
        names = [a.name for a in self.axes]
        if set(data) != set(names):
            raise ValueError(f"a design here has the axes {names}, this one {sorted(data)}")
        return {a.name: a.from_json(data[a.name]) for a in self.axes}

    def same(self, a: Design, b: Design) -> bool:
        """Whether two designs are the same on every axis (the cheap axes are asked first)."""
        axes = sorted(self.axes, key=lambda axis: isinstance(axis, LatentAxis))
        return all(axis.same(a[axis.name], b[axis.name]) for axis in axes)

    def key(self, design: Design) -> tuple[Hashable, ...]:
        """Something cheap that two designs share if they are the same (and perhaps if not)."""
        return tuple(a.key(design[a.name]) for a in self.axes)

    def describe(self, design: Design) -> str:
        """A short name for a person: `MgO (Fm-3m, 2 atoms), sintering 1200 K`."""
        return ", ".join(a.describe(design[a.name]) for a in self.axes)

    def latent(self, designs: Sequence[Design]) -> np.ndarray:
        """Latent vectors of n designs, axis beside axis: n x d (d = 0 without a latent axis).

        Raises:
            EncodeError: as `features`.
        """
        axes = [a for a in self.axes if isinstance(a, LatentAxis)]
        if not designs or not axes:
            return np.empty((len(designs), sum(a.width for a in axes)))
        return np.hstack([a.embed([d[a.name] for d in designs]) for a in axes])

    def steady(self, designs: Sequence[Design]) -> np.ndarray:
        """Which of n designs the generators of all latent axes find steady: n, bool."""
        found = np.ones(len(designs), dtype=bool)
        for axis in self.axes:
            if isinstance(axis, LatentAxis):
                found &= axis.generator.steady([d[axis.name] for d in designs])
        return found

    def refusals(self, designs: Sequence[Design]) -> list[str | None]:
        """Why each of n designs is none that its generators are asked for; None where it is one."""
        why: list[str | None] = [None] * len(designs)
        for axis in self.axes:
            if isinstance(axis, LatentAxis):
                told = axis.generator.refusals([d[axis.name] for d in designs])
                why = [one or other for one, other in zip(why, told, strict=True)]
        return why

    @cached_property
    def _cuts(self) -> np.ndarray:
        return np.cumsum([a.width for a in self.axes])[:-1]

    def _split(self, codes: np.ndarray) -> list[np.ndarray]:
        return np.split(codes, self._cuts, axis=1)

    def _join(self, parts: list[list[Any | None]]) -> list[Design | None]:
        names = [a.name for a in self.axes]
        return [
            None if any(v is None for v in values) else dict(zip(names, values, strict=True))
            for values in zip(*parts, strict=True)
        ]
