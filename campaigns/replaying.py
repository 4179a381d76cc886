"""What the event log alone tells of a campaign, compared with what the tables hold.

Every change and the event that tells of it are one transaction, so what the events tell must be
what the tables hold. Where it is not, somebody changed one of them by hand, or a disk did.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from campaigns.store.models import CampaignRow, Event, Trial


@dataclass(frozen=True)
class Observed:
    """An observation as an event tells of it; `source` and what came (`raw_`) where it does."""

    metric: str
    mean: float
    sem: float | None
    unit: str
    source: str
    time: datetime
    fidelity: str | None = None
    raw_value: float | None = None
    raw_unit: str | None = None
    external_id: str | None = None

    @property
    def value(self) -> tuple[str, float, float | None, str]:
        """Metric, mean, standard error and unit."""
        return self.metric, self.mean, self.sem, self.unit


@dataclass
class Replayed:
    """A trial as its events tell of it.

    Attributes:
        design: Its design, JSON; None where the log is older than such events.
        observations: In the order in which they came.
        files: Name, media type and hash of what evaluations left, as far as events tell.
        The others: As the table has them.
    """

    design: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    created: datetime | None = None
    fidelity: str | None = None
    external_id: str | None = None
    status: str = "candidate"
    failure: str | None = None
    attempt: int = 0
    token: int = 0
    worker: str | None = None
    lost: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    approved: bool | None = None
    held: bool = False
    realised: dict[str, Any] | None = None
    observations: list[Observed] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON, without times."""
        times = ("created", "started", "ended")
        told = {k: v for k, v in vars(self).items() if k not in times}
        told["observations"] = [
            {k: v for k, v in asdict(o).items() if k != "time"} for o in self.observations
        ]
        return told

    def take(self, kind: str, told: dict[str, Any], time: datetime) -> None:
        """What one event changes of its trial."""
        if kind == "trial_started":
            self._move("running", time)
            self.attempt, self.worker = told["attempt"], told.get("worker")
            self.token = told.get("token", self.token)
        elif kind in ("trial_reset", "lease_lost"):
            self._move("candidate", time)
            self.lost += kind == "lease_lost"
        elif kind in ("trial_completed", "trial_corrected", "trial_measured", "trial_realised"):
            self._observe(told, time)
            if kind == "trial_completed":
                self._move("completed", time)
            self.lost = 0 if "token" in told else self.lost
        elif kind == "trial_failed":
            self._move("infeasible" if told.get("how") == "infeasible" else "failed", time)
            self.failure = told["reason"]
            self.lost = 0 if "token" in told else self.lost
        elif kind == "trial_abandoned":
            self._move("abandoned", time)
            self.failure = told["reason"]
            self.approved = False if "by" in told else self.approved
        elif kind == "trial_approved":
            self.approved = True
        elif kind == "trial_held":
            self.held = True
        elif kind == "trial_released":
            self.held, self.lost = False, 0
        elif kind == "trial_fidelity":
            self.fidelity = told["tried"]

    def _move(self, status: str, time: datetime) -> None:
        self.status, self.failure, self.worker = status, None, None
        if status == "running":
            self.started = time
        elif status == "candidate":
            self.started = None
        else:
            self.ended = time

    def _observe(self, told: dict[str, Any], time: datetime) -> None:
        source = told.get("source") or f"worker {told.get('worker')}"
        now = {o.metric: o.value for o in self.observations}
        for metric, m in told.get("measurements", {}).items():
            observed = Observed(
                metric, m["mean"], m["sem"], m["unit"], source[:200], time, self.fidelity,
                m.get("raw_value"), m.get("raw_unit"), told.get("external_id"),
            )  # fmt: skip
            if now.get(metric) != observed.value:
                self.observations.append(observed)
        if "realised" in told:
            self.realised = {**(self.realised or {}), **told["realised"]}
        self.files += told.get("artifacts", [])


@dataclass
class ReplayedCampaign:
    """A campaign as its events tell of it.

    Attributes:
        spec, text, token: As it was begun or changed last; None where the log is older than such
            events.
        spec_hash, stopped: As the table has them.
        state: Likewise; None where an older log does not tell it.
        trials: By number.
    """

    spec: dict[str, Any] | None = None
    text: str | None = None
    token: str | None = None
    spec_hash: str | None = None
    stopped: bool = False
    state: str | None = "open"
    trials: dict[int, Replayed] = field(default_factory=dict)

    def take(self, kind: str, told: dict[str, Any], time: datetime) -> None:
        """What one event changes."""
        if kind in ("campaign_created", "spec_changed"):
            self.spec_hash = told.get("spec_hash", self.spec_hash)
            content = told.get("content", {})
            self.spec = content.get("spec")
            self.text, self.token = content.get("text"), content.get("token", self.token)
        elif kind in ("campaign_stopped", "campaign_resumed"):
            self.stopped = kind == "campaign_stopped"
        elif kind in ("state_changed", "run_ended"):
            self.state = told.get("state")
        elif kind == "question_answered":
            self.state = "open" if told["go_on"] else self.state
        elif kind == "trials_proposed":
            content = {one["trial"]: one for one in told.get("content", ())}
            for index in told["trials"]:
                one = content.get(index, {})
                self.trials[index] = Replayed(
                    one.get("design"), one.get("provenance", {}), time, one.get("fidelity")
                )
        elif kind == "trial_added":
            self.trials[told["trial"]] = Replayed(
                told["design"], told["provenance"], time, told["fidelity"], told["external_id"]
            )
        elif told.get("trial") in self.trials:
            self.trials[told["trial"]].take(kind, told, time)


def replay(session: Session, campaign_id: int) -> ReplayedCampaign:
    """A campaign as its events tell of it."""
    found = ReplayedCampaign()
    for kind, payload, time in session.execute(
        select(Event.kind, Event.payload, Event.time)
        .where(Event.campaign_id == campaign_id)
        .order_by(Event.id)
        .execution_options(yield_per=1000)
    ):
        found.take(kind, payload, time)
    return found


def differences(session: Session, row: CampaignRow) -> tuple[ReplayedCampaign, list[str]]:
    """A campaign by its events, and where the tables differ from them, in words."""
    found = replay(session, row.id)
    rows = session.scalars(
        select(Trial)
        .where(Trial.campaign_id == row.id)
        .order_by(Trial.index)
        .options(selectinload(Trial.observations), selectinload(Trial.artifacts))
    )
    tables = {trial.index: trial for trial in rows}
    told = [f"the campaign: {what}" for what in _differ(_of_campaign(found, row))]
    told += [
        f"trial {index} is in the {'table' if index in tables else 'events'} only"
        for index in sorted(found.trials.keys() ^ tables.keys())
    ]
    for index in sorted(found.trials.keys() & tables.keys()):
        pairs = _of_trial(found.trials[index], tables[index])
        told += [f"trial {index}: {what}" for what in _differ(pairs)]
    return found, told


Pairs = dict[str, tuple[Any, Any]]


def _of_campaign(events: ReplayedCampaign, table: CampaignRow) -> Pairs:
    pairs: Pairs = {"stop": (events.stopped, table.stopped)}
    if events.state is not None:
        pairs["state"] = (events.state, table.state)
    if events.spec_hash is not None:
        pairs["spec's hash"] = (events.spec_hash, table.spec_hash)
    if events.spec is not None:
        pairs["spec"] = (events.spec, table.spec)
    return pairs


def _of_trial(events: Replayed, table: Trial) -> Pairs:
    pairs: Pairs = {
        "status": (events.status, table.status),
        "fidelity": (events.fidelity, table.fidelity),
        "failure": (events.failure, table.failure),
        "attempt": (events.attempt, table.attempt),
        "lease": (events.token, table.lease_token),
        "worker": (events.worker, table.lease_worker),
        "lost leases": (events.lost, table.lost),
        "approval": (events.approved, table.approved),
        "hold": (events.held, table.held),
        "realised parameters": (events.realised, table.realised),
        "observations": (
            [o.value for o in events.observations],
            [(o.metric, o.mean, o.sem, o.unit) for o in table.observations],
        ),
    }
    if events.design is not None:
        pairs["design"] = (events.design, table.design)
        pairs["external id"] = (events.external_id, table.external_id)
    kept = {(a.name, a.sha256) for a in table.artifacts}
    told = {(file["name"], file["sha256"]) for file in events.files}
    if told - kept:  # those of the log's first years are in no event
        pairs["files"] = (sorted(told), sorted(kept))
    return pairs


def _differ(pairs: Pairs) -> list[str]:
    return [
        f"{name} is {here!r} by the events and {there!r} in the table"
        for name, (here, there) in pairs.items()
        if here != there
    ]
