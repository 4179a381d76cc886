"""Lessons of the surrogate: how good it is, what matters to it, where it is unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loop.calibration import calibration_in_words, calibration_verdict
from loop.explain import spreads
from loop.explain_words import listed, percent, words
from loop.importance import Importance, feature_groups
from loop.problem import Problem

TOLD = 3
"""Features, or designs, that a sentence names."""

MONOTONE = 0.4
"""Rank correlation from which something is said to go with something."""

CLEARLY = 0.9
"""Rank correlation from which it is not said to be mostly so."""

MATTERS = 0.08
"""Share of the importance from which a feature is named."""


@dataclass(frozen=True)
class Lesson:
    """One thing that was learnt.

    Attributes:
        topic: `best`, `model`, `importance`, `conflict`, `constraint`, `failures`, `uncertainty`.
        sentence: it, in words.
        data: what it rests on, JSON-able.
    """

    topic: str
    sentence: str
    data: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {"topic": self.topic, "sentence": self.sentence, "data": self.data}


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 0 where one of them does not vary."""
    from scipy.stats import rankdata

    a, b = rankdata(a), rankdata(b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def of_model(metric: str, report: Mapping[str, Any]) -> Lesson:
    """How well one metric is predicted, from its part of `Surrogate.report`."""
    n, r2 = int(report.get("n", 0)), report.get("loo_r2")
    coverage = report.get("coverage") or {}
    held = {float(level): round(share * n) for level, share in coverage.items()}
    calibration = calibration_in_words(coverage, n) if coverage else "intervals not judged"
    how = "no better than by guessing the mean"
    if report.get("informative") and r2 is not None:
        how = "well" if r2 >= 0.8 else "fairly well" if r2 >= 0.5 else "poorly"
    shown = "" if r2 is None else f" (R2 {r2:.2f}, each result predicted from the others)"
    return Lesson(
        "model",
        f"{words(metric).capitalize()} is predicted {how}{shown}; {calibration}.",
        {
            "metric": metric, "n": n, "loo_r2": r2, "coverage": coverage,
            "calibration": calibration_verdict(held, n),
            "informative": bool(report.get("informative")),
        },
    )  # fmt: skip


def of_importance(
    problem: Problem,
    found: Mapping[str, Importance],
    sample: np.ndarray,
    mean: np.ndarray,
    trusted: Sequence[str],
) -> list[Lesson]:
    """What each metric depends on, and which way.

    Args:
        problem: the goals.
        found: by metric.
        sample: s x f features.
        mean: s x m predictions of them.
        trusted: metrics whose model predicts better than the mean; nothing is said of others.
    """
    groups = feature_groups(problem.space.feature_names)
    lessons: list[Lesson] = []
    for metric in trusted:
        shares = found[metric].shares
        if not shares:
            continue
        y = mean[:, problem.metrics.index(metric)]
        said: list[str] = []
        data: list[dict[str, Any]] = []
        for name, share in list(shares.items())[:TOLD]:
            if share < MATTERS and said:
                break
            trend, how = _trend(problem.space.feature_names, groups[name], sample, y)
            data.append({"feature": name, "share": share, **trend})
            said.append(f"{words(name)} ({percent(share)}{how})")
        lessons.append(
            Lesson(
                "importance", f"{words(metric).capitalize()} depends most on {listed(said)}.",
                {"metric": metric, "features": data, "samples": found[metric].samples},
            )
        )  # fmt: skip
    return lessons


def _trend(
    names: Sequence[str], columns: Sequence[int], sample: np.ndarray, y: np.ndarray
) -> tuple[dict[str, Any], str]:
    """How a group of features moves a prediction: as data, and in words."""
    if len(columns) == 1:
        rho = rank_correlation(sample[:, columns[0]], y)
        if abs(rho) < MONOTONE:
            return {"direction": "both", "rank_correlation": rho}, ", rising and falling with it"
        way = "rising" if rho > 0 else "falling"
        mostly = "" if abs(rho) >= CLEARLY else "mostly "
        return {"direction": way, "rank_correlation": rho}, f", {mostly}{way} with it"
    columns = [column for column in columns if "=" in names[column]]
    level = np.argmax(sample[:, columns], axis=1)
    means = {
        names[columns[k]].partition("=")[2]: float(y[level == k].mean())
        for k in range(len(columns))
        if (level == k).any()
    }
    high, low = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return {"direction": "levels", "means": means}, f", highest with {high}, lowest with {low}"


def of_uncertainty(
    problem: Problem,
    outcomes: np.ndarray,
    sample: np.ndarray,
    sd: np.ndarray,
    trusted: Sequence[str],
) -> list[Lesson]:
    """How much of each metric is not known yet, and where most.

    Args:
        problem: the goals.
        outcomes: n x m.
        sample: s x f features.
        sd: s x m standard deviations of the predictions of them.
        trusted: as `of_importance`.
    """
    spread, names = spreads(problem, outcomes), problem.space.feature_names
    lessons = []
    for metric in trusted:
        j = problem.metrics.index(metric)
        share = float(np.median(sd[:, j]) / spread[j])
        text = (
            f"Over the whole space, {words(metric)} is known to within {percent(share)} of the "
            "spread of what was observed"
        )
        trends = [rank_correlation(x, sd[:, j]) for x in sample.T]
        data: dict[str, Any] = {"metric": metric, "share_of_spread": share}
        if trends:
            at = int(np.argmax(np.abs(trends)))
            if abs(trends[at]) >= MONOTONE:
                where = f"{'high' if trends[at] > 0 else 'low'} {words(names[at])}"
                if "=" in names[at]:
                    where = f"{words(names[at])}" if trends[at] > 0 else f"not {words(names[at])}"
                text += f"; it is least sure at {where}"
                data |= {"least_sure_at": where, "rank_correlation": trends[at]}
        lessons.append(Lesson("uncertainty", f"{text}.", data))
    return lessons
