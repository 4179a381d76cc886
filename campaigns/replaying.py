"""Trials and observations rebuilt from the event log alone, and compared with the tables.

Every change and the event that tells of it are one transaction, so what the events tell must be
what the tables hold. Where it is not, somebody changed one of them by hand, or a disk did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import records
from campaigns.store.models import CampaignRow, Event, Trial


@dataclass
class Replayed:
    """A trial as its events tell of it.

    Attributes:
        design: Its design, JSON; None where the log is older than such events.
        status, fidelity, failure, attempt, token, approved, held: As the table has them.
        observations: Metric, mean, standard error and unit, in the order in which they came.
    """

    design: dict[str, Any] | None = None
    status: str = "candidate"
    fidelity: str | None = None
    failure: str | None = None
    attempt: int = 0
    token: int = 0
    approved: bool | None = None
    held: bool = False
    observations: list[tuple[str, float, float | None, str]] = field(default_factory=list)

    def observe(self, measurements: dict[str, dict[str, Any]]) -> None:
        """Take in what an event tells was measured."""
        now = {metric: told for metric, *told in self.observations}
        for metric, m in measurements.items():
            if now.get(metric) != [m["mean"], m["sem"], m["unit"]]:
                self.observations.append((metric, m["mean"], m["sem"], m["unit"]))

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            **{k: v for k, v in vars(self).items() if k != "observations"},
            "observations": [
                {"metric": metric, "mean": mean, "sem": sem, "unit": unit}
                for metric, mean, sem, unit in self.observations
            ],
        }


def replay(session: Session, campaign_id: int) -> dict[int, Replayed]:
    """The trials of a campaign as its events tell of them, by number."""
    trials: dict[int, Replayed] = {}
    for kind, payload in session.execute(
        select(Event.kind, Event.payload)
        .where(Event.campaign_id == campaign_id)
        .order_by(Event.id)
        .execution_options(yield_per=1000)
    ):
        if kind == "trials_proposed":
            content = {one["trial"]: one for one in payload.get("content", ())}
            for index in payload["trials"]:
                told = content.get(index, {})
                trials[index] = Replayed(told.get("design"), fidelity=told.get("fidelity"))
        elif kind == "trial_added":
            trials[payload["trial"]] = Replayed(payload["design"], fidelity=payload["fidelity"])
        elif payload.get("trial") in trials:
            _take(trials[payload["trial"]], kind, payload)
    return trials


def _take(trial: Replayed, kind: str, told: dict[str, Any]) -> None:
    """What one event changes of its trial."""
    if kind == "trial_started":
        trial.status, trial.failure, trial.attempt = "running", None, told["attempt"]
        trial.token = told.get("token", trial.token)
    elif kind in ("trial_reset", "lease_lost"):
        trial.status, trial.failure = "candidate", None
    elif kind in ("trial_completed", "trial_corrected", "trial_measured"):
        trial.observe(told.get("measurements", {}))
        if kind != "trial_measured":
            trial.status, trial.failure = "completed", None
    elif kind == "trial_failed":
        trial.status = "infeasible" if told.get("how") == "infeasible" else "failed"
        trial.failure = told["reason"]
    elif kind == "trial_abandoned":
        trial.status, trial.failure = "abandoned", told["reason"]
        if "by" in told:
            trial.approved = False
    elif kind == "trial_approved":
        trial.approved = True
    elif kind in ("trial_held", "trial_released"):
        trial.held = kind == "trial_held"
    elif kind == "trial_fidelity":
        trial.fidelity = told["tried"]


def differences(session: Session, row: CampaignRow) -> tuple[dict[int, Replayed], list[str]]:
    """A campaign's trials by its events, and where the tables differ from them, in words."""
    found = replay(session, row.id)
    tables = {trial.index: trial for trial in records.trials_of(session, row.id)}
    told = [
        f"trial {index} is in the {'table' if index in tables else 'events'} only"
        for index in sorted(found.keys() ^ tables.keys())
    ]
    for index in sorted(found.keys() & tables.keys()):
        told += [f"trial {index}: {what}" for what in _differ(found[index], tables[index])]
    return found, told


def _differ(events: Replayed, table: Trial) -> list[str]:
    pairs: dict[str, tuple[Any, Any]] = {
        "status": (events.status, table.status),
        "fidelity": (events.fidelity, table.fidelity),
        "failure": (events.failure, table.failure),
        "attempt": (events.attempt, table.attempt),
        "lease": (events.token, table.lease_token),
        "approval": (events.approved, table.approved),
        "hold": (events.held, table.held),
        "observations": (
            events.observations,
            [(o.metric, o.mean, o.sem, o.unit) for o in table.observations],
        ),
    }
    if events.design is not None:
        pairs["design"] = (events.design, table.design)
    return [
        f"{name} is {here!r} by the events and {there!r} in the table"
        for name, (here, there) in pairs.items()
        if here != there
    ]
