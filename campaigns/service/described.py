"""Campaigns, trials and observations as requests get them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, selectinload

from campaigns import records
from campaigns.handout import flat_design
from campaigns.service.core import Known
from campaigns.spec_axes import ChoiceAxis, CompositionAxis, LatentAxis, PoolAxis
from campaigns.spec_changes import completed
from campaigns.stopping import granted_in
from campaigns.store.models import STATUSES, CampaignRow, Event, Observation, Trial, Worker

BRIEF = ("name", "method", "acquisition", "feasibility", "seed")
"""What a list of trials tells of their provenance."""


def trials(
    session: Session,
    known: Known,
    status: str | None,
    after: int,
    limit: int,
    whole: bool = False,
) -> list[dict[str, Any]]:
    """Trials in the order of their numbers; in brief, unless `whole`."""
    query = (
        select(Trial)
        .where(Trial.campaign_id == known.id, Trial.index > after)
        .order_by(Trial.index)
        .limit(limit)
        .options(selectinload(Trial.observations))
    )
    if status is not None:
        query = query.where(Trial.status == status)
    return [trial(known, one, whole) for one in session.scalars(query)]


def trial(known: Known, row: Trial, whole: bool = False) -> dict[str, Any]:
    """A trial; `whole` with its provenance and its files."""
    told = records.trial_dict(row)
    provenance = told.pop("provenance")
    told |= {
        "params": flat_design(completed(known.spec, row.design)),
        "prediction": provenance.get("prediction"),
        "provenance": provenance
        if whole
        else {key: provenance[key] for key in BRIEF if key in provenance},
        "lease": {
            "worker": row.lease_worker,
            "expires": row.lease_expires.isoformat(),
            "token": row.lease_token,
            "progress": row.lease_progress,
            "note": row.lease_note,
        }
        if row.lease_expires is not None
        else None,
        "approved": row.approved,
        "held": row.held,
        "lost": row.lost,
        "external_id": row.external_id,
        "rev": row.rev,
    }
    if whole:
        told["artifacts"] = [
            {"name": a.name, "media_type": a.media_type, "sha256": a.sha256} for a in row.artifacts
        ]
    return told


def observations(session: Session, known: Known, after: int, limit: int) -> list[dict[str, Any]]:
    """Observations in the order in which they were written, corrected ones too."""
    corrected = (
        select(Observation.supersedes_id)
        .where(Observation.supersedes_id.is_not(None))
        .scalar_subquery()
    )
    rows = session.execute(
        select(Observation, Trial.index, Observation.id.in_(corrected))
        .join(Trial, Trial.id == Observation.trial_id)
        .where(Trial.campaign_id == known.id, Observation.id > after)
        .order_by(Observation.id)
        .limit(limit)
    )
    return [
        {
            "id": o.id,
            "trial": index,
            "metric": o.metric,
            "mean": o.mean,
            "sem": o.sem,
            "unit": o.unit,
            "raw_value": o.raw_value,
            "raw_unit": o.raw_unit,
            "fidelity": o.fidelity,
            "source": o.source,
            "external_id": o.external_id,
            "time": o.time.isoformat(),
            "supersedes": o.supersedes_id,
            "superseded": bool(superseded),
        }
        for o, index, superseded in rows
    ]


def campaigns(session: Session, only: str | None) -> list[dict[str, Any]]:
    """All campaigns, oldest first, in brief."""
    query = select(CampaignRow).order_by(CampaignRow.id)
    if only is not None:
        query = query.where(CampaignRow.name == only)
    counts: dict[int, dict[str, int]] = {}
    for campaign, status, n in session.execute(
        select(Trial.campaign_id, Trial.status, func.count()).group_by(
            Trial.campaign_id, Trial.status
        )
    ):
        counts.setdefault(campaign, dict.fromkeys(STATUSES, 0))[status] = n
    found = []
    for row in session.scalars(query):
        last = session.execute(
            select(Event.id, Event.time, Event.kind)
            .where(Event.campaign_id == row.id)
            .order_by(Event.id.desc())
            .limit(1)
        ).first()
        by = counts.get(row.id, dict.fromkeys(STATUSES, 0))
        found.append(
            {
                "name": row.name,
                "counts": by,
                "budget": _granted(session, row),
                "state": state(row, by),
                "created": row.created.isoformat(),
                "last_event": None
                if last is None
                else {"id": last.id, "time": last.time.isoformat(), "kind": last.kind},
            }
        )
    return found


def _granted(session: Session, row: CampaignRow) -> int | None:
    budget = row.spec.get("budget") or {}
    trials: int | None = (granted_in(session, row.id, budget) or budget).get("trials")
    return trials


def state(row: CampaignRow, counts: dict[str, int], held: int = 0) -> str:
    """One word: stopped, paused, ended, running, held or waiting."""
    if row.stopped:
        return "stopped"
    if row.state != "open":
        return row.state
    if counts["running"]:
        return "running"
    return "held" if held and held == counts["candidate"] else "waiting"


def around(session: Session, known: Known) -> dict[str, Any]:
    """What there is to know of a campaign beside its results: engine, workers, state, metrics."""
    row = session.get_one(CampaignRow, known.id)
    counts = dict.fromkeys(STATUSES, 0)
    for status, n in session.execute(
        select(Trial.status, func.count())
        .where(Trial.campaign_id == known.id)
        .group_by(Trial.status)
    ):
        counts[status] = n
    waits = (Trial.campaign_id == known.id, Trial.status == "candidate")
    shut = [Trial.held.is_(True)]
    if known.spec.approve:
        shut.append(Trial.approved.is_not(True))
    held = session.scalar(select(func.count()).where(*waits, or_(*shut))) or 0
    leased: dict[str, list[int]] = {}
    for worker, index in session.execute(
        select(Trial.lease_worker, Trial.index)
        .where(Trial.campaign_id == known.id, Trial.status == "running")
        .where(Trial.lease_worker.is_not(None))
        .order_by(Trial.index)
    ):
        leased.setdefault(str(worker), []).append(index)
    workers = session.scalars(
        select(Worker)
        .where(Worker.campaign_id == known.id)
        .order_by(Worker.last_seen.desc())
        .limit(1000)
    )
    return {
        "state": state(row, counts, held),
        "stopped": row.stopped,
        "waiting": counts["candidate"] - held,
        "held": held,
        "approve": known.spec.approve,
        "engine": {
            "seen": row.engine_seen.isoformat() if row.engine_seen else None,
            "says": row.engine_says,
        },
        "workers": [
            {
                "name": w.name,
                "last_seen": w.last_seen.isoformat(),
                "capabilities": w.capabilities,
                "trials": leased.get(w.name, []),
            }
            for w in workers
        ],
        "metrics": known.units,
        **goals(known),
        "parameters": parameters(known),
        "fidelities": list(known.spec.fidelities),
        "evaluate": known.spec.evaluator_config().get("with"),
    }


def goals(known: Known) -> dict[str, Any]:
    """What is sought: objectives with their goals, and bounds on metrics."""
    sought = known.spec.goals()
    return {
        "objectives": [
            {
                key: getattr(o, key)
                for key in ("metric", "goal", "unit", "target", "tolerance", "threshold")
            }
            for o in sought.objectives
        ],
        "constraints": [
            {key: getattr(c, key) for key in ("metric", "op", "bound", "unit")}
            for c in sought.constraints
        ],
    }


def parameters(known: Known) -> list[dict[str, Any]]:
    """The axes of the space: name, kind, unit, and for ranges and choices what they may be."""
    kinds = {
        LatentAxis: "latent", ChoiceAxis: "choice", CompositionAxis: "composition",
        PoolAxis: "pool",
    }  # fmt: skip
    found = []
    for name, axis in known.spec.space.items():
        told: dict[str, Any] = {"name": name, "kind": kinds.get(type(axis), "range")}
        told["unit"] = getattr(axis, "unit", None)
        if (bounds := getattr(axis, "range", None)) is not None:
            told["range"] = list(bounds)
        if isinstance(axis, ChoiceAxis):
            told["choice"] = list(axis.choice)
        if isinstance(axis, CompositionAxis):
            told["composition"] = list(axis.composition)
        found.append(told)
    return found
