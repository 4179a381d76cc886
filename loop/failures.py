"""Where trials fail: the one condition that tells failures best, unless chance would do as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.explain_words import words
from loop.lessons import Lesson
from loop.problem import Problem
from loop.space import Design

if TYPE_CHECKING:
    from surrogates import Feasibility

CUTS = 24
"""Thresholds tried on a feature."""

SURE = 0.05
"""Chance that a pattern by itself would look so clear, corrected for all that were tried."""


def where_it_fails(
    problem: Problem,
    designs: Sequence[Design],
    X: np.ndarray,
    outcomes: np.ndarray,
    failed: np.ndarray,
    feasibility: Feasibility | None,
) -> list[Lesson]:
    """The lesson of the failures; none where nothing failed.

    One condition on one feature is sought, above or below a value, and judged by Fisher's exact
    test with Bonferroni's correction for all conditions that were tried.

    Args:
        problem: for the names.
        designs: n designs.
        X: n x f features.
        outcomes: n x m; nan = not measured.
        failed: n booleans.
        feasibility: None before there is one.
    """
    failed = np.asarray(failed, dtype=bool)
    ended = failed | np.isfinite(outcomes).any(axis=1)
    bad, n = int(failed[ended].sum()), int(ended.sum())
    if not bad:
        return []
    told = f"{bad} of {n} trials failed"
    data: dict[str, Any] = {"failed": bad, "of": n}
    if feasibility is not None:
        data["model_sees_a_pattern"] = bool(feasibility.informative)
    if n - bad < 2:
        others = "only one" if bad < n else "none"
        return [Lesson("failures", f"{told}: {others} succeeded to compare them with.", data)]
    if bad < 2:
        return [Lesson("failures", f"{told}: too few failures to say where.", data)]
    best = _clearest(problem, [d for d, e in zip(designs, ended, strict=True) if e],
                     X[ended], failed[ended])  # fmt: skip
    if best is None:
        return [Lesson("failures", f"{told}, with no pattern that one feature shows.", data)]
    where, inside, inside_bad, chance = best
    text = (
        f"Trials fail with {where}: {inside_bad} of the {inside} tried there failed, and "
        f"{bad - inside_bad or 'none'} of the {n - inside} others"
    )
    data |= {"where": where, "there": inside, "failed_there": inside_bad, "p_value": chance}
    return [Lesson("failures", f"{text}.", data)]


def _clearest(
    problem: Problem, designs: Sequence[Design], X: np.ndarray, failed: np.ndarray
) -> tuple[str, int, int, float] | None:
    """The clearest condition: in words, designs it holds for, failures of these, its p-value."""
    from scipy.stats import hypergeom

    conditions: list[tuple[str, int, int]] = []
    for j, name in enumerate(problem.space.feature_names):
        values, unit, told = _as_people_say(problem, designs, X[:, j], name)
        levels = np.unique(values)
        cuts = 0.5 * (levels[1:] + levels[:-1])
        if len(cuts) > CUTS:
            cuts = cuts[np.linspace(0, len(cuts) - 1, CUTS).astype(int)]
        for cut in cuts:
            for above in (True, False):
                inside = values > cut if above else values < cut
                where = f"{told} {'above' if above else 'below'} {cut:.4g}{unit}"
                if "=" in name:
                    where = words(name) if above else words(name).replace("=", " other than ")
                conditions.append((where, int(inside.sum()), int(failed[inside].sum())))
    if not conditions:
        return None
    there, bad = (np.array([c[k] for c in conditions]) for k in (1, 2))
    # Fisher's test: so many failures or more among those inside, if they had been dealt out blindly
    chances = hypergeom.sf(bad - 1, len(failed), int(failed.sum()), there)
    best = int(np.argmin(chances))
    chance = min(1.0, len(conditions) * float(chances[best]))
    return (*conditions[best], chance) if chance <= SURE else None


def _as_people_say(
    problem: Problem, designs: Sequence[Design], column: np.ndarray, name: str
) -> tuple[np.ndarray, str, str]:
    """A feature's values, in the parameter's own numbers where it is one, its unit and its name."""
    for axis in problem.space.axes:
        if axis.name != name:
            continue
        values = [design.get(name) for design in designs]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            unit = getattr(axis, "unit", "")
            shown = "" if unit in ("", "dimensionless") else f" {unit}"
            return np.array(values, dtype=np.float64), shown, words(name)
    return column, "", words(name)
