"""How good the predictions were that were made before the results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist

import numpy as np

from campaigns.facts import Facts
from loop.calibration import calibration_verdict

LEVELS = (50, 80, 95)


@dataclass(frozen=True)
class Record:
    """Predictions of one metric that a result has answered.

    Attributes:
        metric: Its name.
        rows: Of the `k` trials.
        result: `k` means.
        result_sem: `k` standard errors, 0 where none is known.
        predicted: `k` means.
        sd: `k` standard deviations of the prediction.
        guess: Mean of the results that were there when each prediction was made; nan = none.
    """

    metric: str
    rows: list[int]
    result: np.ndarray
    result_sem: np.ndarray
    predicted: np.ndarray
    sd: np.ndarray
    guess: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def mean_error(self) -> float:
        """Mean absolute error of the predictions."""
        return float(np.abs(self.predicted - self.result).mean())

    @property
    def guess_error(self) -> float:
        """Mean absolute error of always guessing the mean of what was known; nan = unknown."""
        error = np.abs(self.guess - self.result)
        return float(error.mean()) if np.isfinite(error).all() and len(error) else math.nan

    def covered(self, level: int) -> int:
        """How many results lie in the central interval of so many percent."""
        half = NormalDist().inv_cdf(0.5 + level / 200.0)
        spread = np.hypot(self.sd, self.result_sem)
        return int((np.abs(self.predicted - self.result) <= half * spread).sum())

    def verdict(self) -> str:
        """Whether so many results may well fall inside the intervals: a binomial test.

        Returns:
            few, fit, narrow (too sure of itself) or wide (too careful).
        """
        return calibration_verdict({level: self.covered(level) for level in LEVELS}, len(self))


def track_records(facts: Facts) -> list[Record]:
    """For each metric, its predictions that were answered; those without any are left out."""
    found = []
    ends = [_time(t["ended"]) for t in facts.trials]
    made = [_time(t["created"]) for t in facts.trials]
    for j, metric in enumerate(facts.metrics):
        result, predicted, sd = (
            table[:, j] for table in (facts.outcomes, facts.predicted, facts.predicted_sd)
        )
        rows = np.flatnonzero(np.isfinite(result) & np.isfinite(predicted) & np.isfinite(sd))
        if not len(rows):
            continue
        guess = []
        for row in rows:
            before = [
                result[i]
                for i, end in enumerate(ends)
                if end is not None and end <= (made[row] or end) and math.isfinite(result[i])
            ]
            guess.append(float(np.mean(before)) if before else math.nan)
        found.append(
            Record(
                metric,
                rows.tolist(),
                result[rows],
                np.nan_to_num(facts.sem[rows, j]),
                predicted[rows],
                sd[rows],
                np.array(guess),
            )
        )
    return found


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
