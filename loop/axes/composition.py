"""An axis of amounts that add up: an alloy, a mixture, a blend."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from generators.base import EncodeError
from loop.axes.base import EXACT, RESOLUTION, TOLERANCE, Axis, Block
from loop.axes.descriptors import Descriptors
from loop.axes.grid import Grid
from loop.polytope import hit_and_run, nearest

SLACK = 0.005
"""How far a sum may be from the total, relative to it, to be taken for it.

Tables round their cells: rows that add up to 99.8 or 100.2 percent are usual.
"""


@dataclass(frozen=True)
class CompositionAxis(Axis):
    """Amounts of k ingredients that add up to a total, few of them different from zero.

    A value is a dict from ingredient to amount, all k of them. Its code is the k fractions of the
    total, and so are its features, beside the mean of the ingredients' descriptors where there are
    any.

    Attributes:
        ingredients: k names.
        at_most: how many may differ from zero; None = all.
        bounds: smallest and largest amount of an ingredient, in the unit of the total. One that is
            not named may be anything from none to all.
        total: what the amounts add up to.
        step: amounts are multiples of it; None = any amount.
        unit: of the amounts.
        descriptors: numbers that describe every ingredient; None = none.

    Raises:
        ValueError: fewer than two ingredients, bounds of another, bounds that leave no composition,
            or a step that does not divide the total.
    """

    name: str
    ingredients: tuple[str, ...]
    at_most: int | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    total: float = 1.0
    step: float | None = None
    unit: str = ""
    descriptors: Descriptors | None = None

    def __post_init__(self) -> None:
        k = len(self.ingredients)
        if k < 2 or len(set(self.ingredients)) < k:
            raise ValueError(f"{self.name}: wanted two ingredients or more: {self.ingredients}")
        if not (math.isfinite(self.total) and self.total > 0):
            raise ValueError(f"{self.name}: the total {self.total} is not above zero")
        if self.at_most is not None and not 1 <= self.at_most <= k:
            raise ValueError(f"{self.name}: at_most is {self.at_most}, there are {k} ingredients")
        if unknown := [i for i in self.bounds if i not in self.ingredients]:
            raise ValueError(f"{self.name}: bounds of {', '.join(unknown)}, which is no ingredient")
        for ingredient, (low, high) in self.bounds.items():
            if not 0 <= low <= high <= self.total * (1 + EXACT):
                raise ValueError(
                    f"{self.name}: {ingredient} from {low} to {high} is not within 0 to"
                    f" {self.total}"
                )
        if self.step is not None:
            parts = self.total / self.step if self.step > 0 else 0.0
            if round(parts) < 1 or abs(parts - round(parts)) > 1e-6 * parts:
                raise ValueError(f"{self.name}: the step {self.step} does not divide {self.total}")
        self._check_bounds()
        if self.descriptors is not None:
            self.descriptors.check(self.name, self.ingredients)

    def _check_bounds(self) -> None:
        low, high = self._limits
        if (low > high).any():
            at = self.ingredients[int(np.argmax(low > high))]
            raise ValueError(f"{self.name}: no multiple of the step is within the bounds of {at}")
        needed = low > 0
        most = int(needed.sum())
        if most > self.most:
            raise ValueError(
                f"{self.name}: {most} ingredients may not be zero, and at most {self.most} may be"
                " used"
            )
        free = np.sort(high[~needed])[::-1][: self.most - most]
        if low.sum() > 1 + EXACT or high[needed].sum() + free.sum() < 1 - EXACT:
            raise ValueError(
                f"{self.name}: no composition adds up to {self.total:g} within the bounds"
                + ("" if self.at_most is None else f" of at most {self.at_most} ingredients")
            )

    @property
    def most(self) -> int:
        """How many ingredients may differ from zero."""
        return len(self.ingredients) if self.at_most is None else self.at_most

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest fractions, on the grid where there is one."""
        whole = (0.0, self.total)
        pairs = np.array([self.bounds.get(i, whole) for i in self.ingredients], dtype=np.float64)
        low, high = pairs.T / self.total
        if self.step is not None:
            n = self._parts
            low, high = np.ceil(low * n - 1e-6) / n, np.floor(high * n + 1e-6) / n
        return low, np.minimum(high, 1.0)

    @property
    def _parts(self) -> int:
        """Steps in the total."""
        assert self.step is not None
        return round(self.total / self.step)

    @property
    def width(self) -> int:
        """One an ingredient."""
        return len(self.ingredients)

    @cached_property
    def _described(self) -> tuple[tuple[str, ...], np.ndarray]:
        if self.descriptors is None:
            return (), np.empty((len(self.ingredients), 0))
        return self.descriptors.scaled(self.ingredients)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The fractions, then the means of the descriptors."""
        fractions = tuple(f"{self.name}.{i}" for i in self.ingredients)
        return fractions + tuple(f"{self.name}.mean {d}" for d in self._described[0])

    @property
    def smooth(self) -> tuple[tuple[int, int], ...]:
        """The fractions, unless they jump or descriptors move with them."""
        if self.step is not None or self._described[0]:
            return ()
        return tuple((i, i) for i in range(len(self.ingredients)))

    @property
    def size(self) -> int | None:
        """How many compositions there are on the grid."""
        return None if self._grid is None else self._grid.size

    @cached_property
    def _grid(self) -> Grid | None:
        if self.step is None:
            return None
        low, high = (np.rint(f * self._parts).astype(int) for f in self._limits)
        return Grid.of(self._parts, low, high, self.most)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The amounts."""
        return tuple(f"{self.name}.{i}" for i in self.ingredients)

    def features(self, values: Sequence[Any]) -> np.ndarray:
        """Fractions, and means of the descriptors."""
        return self._features(self.encode(values))

    def features_at(self, codes: np.ndarray) -> np.ndarray:
        """Fractions, and means of the descriptors."""
        return self._features(self._clean(codes))

    def _features(self, fractions: np.ndarray) -> np.ndarray:
        return np.hstack([fractions, fractions @ self._described[1]])

    def _clean(self, codes: np.ndarray) -> np.ndarray:
        """Fractions that add up to one and lie on the grid: what a code decodes to."""
        f = np.where(codes > EXACT, codes, 0.0)
        whole = f.sum(axis=1, keepdims=True)
        f = np.where(np.abs(whole - 1.0) > EXACT, f / np.where(whole > 0, whole, 1.0), f)
        return f if self.step is None else self.on_grid(f)

    def on_grid(self, fractions: np.ndarray) -> np.ndarray:
        """The nearest compositions of the grid, by the rule of the largest remainders."""
        n = self._parts
        exact = fractions * n
        units = np.floor(exact + 1e-6)
        missing = np.rint(n - units.sum(axis=1)).astype(int)
        rank = np.argsort(np.argsort(-(exact - units), axis=1, kind="stable"), axis=1)
        return (units + (rank < missing[:, None])) / n

    def sample(self, n: int, seed: int) -> list[Any | None]:
        """Draws from the prior."""
        return self.decode(self.prior(n, np.random.default_rng(seed)), seed)

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform over how many ingredients are used (pure ones half as often), which, and amounts.

        The best materials are often of few ingredients, where a uniform draw of all the amounts
        almost never comes.
        """
        low, high = self._limits
        needed = low > 0
        k = len(self.ingredients)
        # With the largest limits, at least so many ingredients are needed to reach the total.
        reach = high[needed].sum() + np.cumsum(np.sort(high[~needed])[::-1])
        fewest = int(needed.sum())
        if high[needed].sum() < 1 - EXACT:
            fewest += 1 + int(np.argmax(reach >= 1 - EXACT))
        sizes = np.arange(max(fewest, 1), self.most + 1)
        # There are few pure ingredients: half as often, or they would come again and again.
        shares = np.where((sizes == 1) & (len(sizes) > 1), 0.5, 1.0)
        used = rng.choice(sizes, size=n, p=shares / shares.sum())
        order = rng.random((n, k)) - 2.0 * needed
        rank = np.argsort(np.argsort(order, axis=1), axis=1)
        support = rank < used[:, None]
        short = np.where(support, high, 0.0).sum(axis=1) < 1 - EXACT
        support[short] = self._support(np.where(support, rng.random((n, k)), 0.0)[short])
        top = np.where(support, high, 0.0)
        weights = np.where(support, rng.exponential(size=(n, k)), 0.0)
        f = low + (1.0 - low.sum()) * weights / weights.sum(axis=1, keepdims=True)
        out = (f > top + EXACT).any(axis=1)
        if out.any():
            f[out] = self._inside(low, top[out], rng)
        return self._clean(f)

    def _inside(self, low: np.ndarray, top: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Uniform draws between limits, one for each row of `top`."""
        n, k = top.shape
        corners = np.stack(
            [self._nearest(rng.random((n, k)) * 2.0 - 0.5, low, top) for _ in range(4)]
        )
        weights = rng.dirichlet(np.ones(4), size=n).T[:, :, None]
        start = np.clip((corners * weights).sum(axis=0), low, top)
        ones, one = np.ones((1, k)), np.ones(1)
        yes = np.array([True])
        return hit_and_run(
            start, np.broadcast_to(low, top.shape), top, ones, one, yes, steps=10 + 2 * k, rng=rng
        )

    @staticmethod
    def _nearest(codes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        k = codes.shape[1]
        return nearest(codes, low, high, np.ones((1, k)), np.ones(1), np.array([True]))[0]

    def _support(self, codes: np.ndarray) -> np.ndarray:
        """Which ingredients to keep of each code: the largest that can reach the total."""
        low, high = self._limits
        needed = low > 0
        codes = np.clip(codes, -1.0, 2.0)
        by_size = np.argsort(np.argsort(-(codes + 4.0 * needed), axis=1, kind="stable"), axis=1)
        by_limit = np.argsort(np.argsort(-(high + codes * EXACT + 4.0 * needed), axis=1), axis=1)
        support = by_size < self.most
        for given in range(self.most - 1, -1, -1):
            short = np.where(support, high, 0.0).sum(axis=1) < 1 - EXACT
            if not short.any():
                break
            # The largest `given`, and then those with the most room.
            rest = np.where(by_size[short] < given, -1, by_limit[short])
            support[short] = np.argsort(np.argsort(rest, axis=1), axis=1) < self.most
        return support

    def project(self, codes: np.ndarray) -> np.ndarray:
        """The nearest fractions within the bounds, of the largest ingredients."""
        good = self._within(codes, EXACT)
        if good.all():
            return codes
        low, high = self._limits
        moved = codes.copy()
        bad = np.nan_to_num(codes[~good], nan=0.0)
        top = np.broadcast_to(high, bad.shape)
        if self.at_most is not None:
            top = np.where(self._support(bad), high, 0.0)
        moved[~good] = self._nearest(bad, low, top)
        return moved

    def _within(self, codes: np.ndarray, tolerance: float) -> np.ndarray:
        low, high = self._limits
        with np.errstate(invalid="ignore"):
            inside = ((codes >= low - tolerance) & (codes <= high + tolerance)).all(axis=1)
            whole = np.abs(codes.sum(axis=1) - 1.0) <= tolerance
            return inside & whole & ((codes > tolerance).sum(axis=1) <= self.most)

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Whether they are fractions within the bounds, and few enough."""
        return self._within(codes, TOLERANCE)

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Fractions of the total."""
        rows = []
        for index, value in enumerate(values):
            try:
                rows.append(list(self.from_json(value).values()))
            except ValueError as error:
                raise EncodeError(index, str(error)) from error
        amounts = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.ingredients))
        return amounts / self.total

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        """Amounts."""
        amounts = self._clean(codes) * self.total
        if self.step is not None:  # 0.30000000000000004 is no amount to weigh
            amounts = np.round(amounts, 12)
        return [dict(zip(self.ingredients, row, strict=True)) for row in amounts.tolist()]

    def jitter(self, codes: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Half the codes on the way to a fresh draw, half a normal step in what they are made of.

        The first brings in ingredients, the second loses them at zero.
        """
        step = scale[:, None]
        towards = (1.0 - step) * codes + step * self.prior(len(codes), rng)
        noise = 0.5 * step * rng.standard_normal(codes.shape) * (codes > EXACT)
        turn = rng.random((len(codes), 1)) < 0.5
        return self.project(np.where(step > 0, np.where(turn, towards, codes + noise), codes))

    def codes_at(self, indices: np.ndarray) -> np.ndarray:
        """The compositions of the grid."""
        if self._grid is None:
            return super().codes_at(indices)
        return self._grid.at(np.asarray(indices)) / self._parts

    def block(self) -> Block:
        """The amounts and their bounds."""
        low, high = self._limits
        return Block(
            low * self.total,
            high * self.total,
            np.full(len(low), self.total),
            total=self.total,
            at_most=self.at_most,
            step=self.step,
        )

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Amounts before they are rounded to the grid."""
        return codes * self.total

    def codes_of(self, numbers: np.ndarray) -> np.ndarray:
        """Fractions."""
        return numbers / self.total

    def to_json(self, value: Any) -> Any:
        """The amounts."""
        return dict(value)

    def from_json(self, data: Any) -> Any:
        """The amounts, checked; a sum that is off by rounding is put right.

        Ingredients that are not named are not used.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{self.name}: {data!r} is no mapping from ingredient to amount")
        if unknown := [str(i) for i in data if i not in self.ingredients]:
            raise ValueError(
                f"{self.name}: {', '.join(unknown)} is none of {', '.join(self.ingredients)}"
            )
        amounts = {i: data.get(i, 0.0) for i in self.ingredients}
        for ingredient, amount in amounts.items():
            number = isinstance(amount, int | float) and not isinstance(amount, bool)
            if not number or not math.isfinite(amount) or amount < 0:
                raise ValueError(f"{self.name}: {amount!r} is no amount of {ingredient}")
        whole = math.fsum(amounts.values())
        off = abs(whole / self.total - 1.0)
        if off > SLACK:
            raise ValueError(f"{self.name}: the amounts add up to {whole:g}, not to {self.total:g}")
        factor = 1.0 if off <= EXACT else self.total / whole
        return {ingredient: float(amount) * factor for ingredient, amount in amounts.items()}

    def same(self, a: Any, b: Any) -> bool:
        """Whether the fractions agree to about a millionth."""
        return bool(self.key(a) == self.key(b))

    def describe(self, value: Any) -> str:
        """Ingredients and amounts: `alloy Fe 0.7 Ni 0.3`."""
        used = sorted((i for i in value.items() if i[1] > EXACT * self.total), key=lambda i: -i[1])
        unit = "" if self.unit == "dimensionless" else self.unit
        amounts = " ".join(f"{ingredient} {amount:.4g}" for ingredient, amount in used)
        return f"{self.name} {amounts} {unit}".rstrip()

    def key(self, value: Any) -> Hashable:
        """The fractions, rounded to a millionth."""
        return tuple(round(value[i] / self.total * RESOLUTION) for i in self.ingredients)
