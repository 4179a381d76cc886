"""What pages and reports tell of, read from a campaign once: plain values and arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select

from campaigns import records
from campaigns.fidelities import counting
from campaigns.stopping import granted
from campaigns.store.models import FAILED, CampaignRow
from loop.front import counts, feasible, pareto_mask, utilities

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from campaigns.spec import Spec
    from loop.problem import Problem

KINDS = {
    "front": "on the front",
    "ok": "feasible",
    "out": "violates a constraint",
    "part": "not every metric is known",
    "failed": "failed",
    "open": "not answered yet",
    "abandoned": "abandoned",
}
"""What a trial is to the goals, in the order of a legend."""

_OF_STATUS = {
    "candidate": "open",
    "running": "open",
    "failed": "failed",
    "infeasible": "failed",
    "abandoned": "abandoned",
}


@dataclass(frozen=True)
class Facts:
    """A campaign at one instant.

    Attributes:
        name: Of the campaign.
        database: Where it is kept, without a password.
        created: When it began (UTC).
        spec: What it seeks.
        spec_text: The spec as it was written.
        spec_hash: SHA-256 of the spec.
        problem: The same as `loop` reads it; no generator is loaded.
        sought: Of `n` trials, whether they count: at which fidelity they are.
        trials: `n` trials as `campaigns.records.trial_dict` gives them, by index.
        corrected: Number of observations that a later one supersedes.
        events: All events, oldest first.
        fits: All fits of the surrogate, oldest first.
        generators: Generator versions of the trials, with their cards.
        preferences: `Campaign.preferences`.
    """

    name: str
    database: str
    created: datetime
    spec: Spec
    spec_text: str
    spec_hash: str
    problem: Problem
    sought: list[bool]
    trials: list[dict[str, Any]]
    corrected: int
    events: list[dict[str, Any]]
    fits: list[dict[str, Any]]
    generators: list[dict[str, Any]]
    preferences: dict[str, Any] = field(default_factory=dict)

    @property
    def kind_names(self) -> dict[str, str]:
        """`KINDS` in the words of this campaign."""
        words = dict(KINDS)
        if not self.several:
            words["front"] = "the best"
        if not self.problem.constraints:
            words["ok"] = "measured"
        return words

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The `m` metrics: the objectives', then the constraints'."""
        return self.problem.metrics

    @cached_property
    def units(self) -> dict[str, str]:
        """The unit of every metric."""
        return self.spec.metric_units()

    @property
    def granted(self) -> int:
        """Trials in all that the budget grants, with what a person granted beyond it."""
        told = self.spec.budget.model_dump(mode="json")
        more = granted(told, ((event["kind"], event["payload"]) for event in self.events))
        return self.spec.budget.trials if more is None else int(more["trials"])

    @property
    def several(self) -> bool:
        """Whether there is more than one objective, and so a front."""
        return len(self.problem.objectives) > 1

    @cached_property
    def outcomes(self) -> np.ndarray:
        """`n x m` means; nan = not measured, not completed, or at a fidelity that is not sought."""
        return self._observed("mean")

    @cached_property
    def sem(self) -> np.ndarray:
        """`n x m` standard errors; nan = not known."""
        return self._observed("sem")

    def _observed(self, what: str) -> np.ndarray:
        return _table(
            [
                t["observations"] if t["status"] == "completed" and sought else {}
                for t, sought in zip(self.trials, self.sought, strict=True)
            ],
            self.metrics,
            what,
        )

    @cached_property
    def predicted(self) -> np.ndarray:
        """`n x m` means predicted before the result; nan = none was made."""
        return _table([_prediction(t) for t in self.trials], self.metrics, "mean")

    @cached_property
    def predicted_sd(self) -> np.ndarray:
        """`n x m` standard deviations of the predictions."""
        return _table([_prediction(t) for t in self.trials], self.metrics, "sd")

    @cached_property
    def front(self) -> np.ndarray:
        """Which trials no other beats: `n` booleans."""
        return pareto_mask(self.problem, self.outcomes)

    @cached_property
    def worth(self) -> np.ndarray:
        """Which of the front are no worse than any threshold of the spec: `n` booleans."""
        values = utilities(self.problem, self.outcomes)
        mask = self.front.copy()
        for j, objective in enumerate(self.problem.objectives):
            if objective.threshold is not None:
                sign = 1.0 if objective.goal == "maximize" else -1.0
                mask &= values[:, j] >= sign * objective.threshold
        return mask

    @cached_property
    def usable(self) -> np.ndarray:
        """Which trials are feasible, with every objective known: `n` booleans."""
        return counts(self.problem, self.outcomes)

    @cached_property
    def kinds(self) -> list[str]:
        """What each trial is to the goals: a key of `KINDS`."""
        known = np.isfinite(self.outcomes).all(axis=1)
        holds = feasible(self.problem, self.outcomes)
        kinds = []
        for row, trial in enumerate(self.trials):
            if trial["status"] != "completed":
                kinds.append(_OF_STATUS[trial["status"]])
            elif self.front[row]:
                kinds.append("front")
            elif self.usable[row]:
                kinds.append("ok")
            else:
                kinds.append("out" if known[row] and not holds[row] else "part")
        return kinds

    @cached_property
    def ended(self) -> list[int]:
        """Rows of the trials that count as tried, in the order in which they ended."""
        rows = [i for i, t in enumerate(self.trials) if t["status"] in ("completed", *FAILED)]
        return sorted(rows, key=lambda i: (self.trials[i]["ended"] or "", i))

    @cached_property
    def latents(self) -> tuple[list[int], np.ndarray]:
        """Rows of the `k` trials with a latent vector, and their vectors, `k x d`."""
        found = [
            (i, t["provenance"].get("latent"))
            for i, t in enumerate(self.trials)
            if t["provenance"].get("latent") and t["status"] != "abandoned"
        ]
        width = max((len(z) for _, z in found), default=0)
        rows = [i for i, z in found if len(z) == width]
        return rows, np.array([z for _, z in found if len(z) == width]).reshape(len(rows), width)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of the events of one kind, oldest first."""
        return [e["payload"] for e in self.events if e["kind"] == kind]


def read_facts(campaign: Campaign) -> Facts:
    """Read a campaign; it may be running meanwhile.

    Raises:
        MatloopError: The database failed.
    """
    with campaign.store.read() as session:
        row = session.scalars(select(CampaignRow).where(CampaignRow.name == campaign.name)).one()
        found = records.trials_of(session, row.id)
        trials = [records.trial_dict(trial) for trial in found]
        sought = counting(campaign.spec, found)
        observed = sum(len(trial.observations) for trial in found)
        created, text, digest = row.created, row.spec_text, row.spec_hash
    return Facts(
        name=campaign.name,
        database=campaign.store.where,
        created=created,
        spec=campaign.spec,
        spec_text=text,
        spec_hash=digest,
        problem=campaign.goals,
        sought=sought,
        trials=trials,
        corrected=observed - sum(len(t["observations"]) for t in trials),
        events=campaign.events(),
        fits=campaign.fits(),
        generators=campaign.generators(),
        preferences=campaign.preferences(),
    )


def _prediction(trial: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return trial["provenance"].get("prediction") or {}


def _table(
    rows: list[dict[str, dict[str, Any]]], metrics: tuple[str, ...], what: str
) -> np.ndarray:
    table = np.full((len(rows), len(metrics)), np.nan)
    for i, row in enumerate(rows):
        for j, metric in enumerate(metrics):
            value = row.get(metric, {}).get(what)
            if value is not None:
                table[i, j] = value
    return table
