"""What the engine is asked to do: kept in the store, so that no request waits and none is lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns.errors import MatloopError, UsageError
from campaigns.service.faults import reached
from campaigns.store import Store
from campaigns.store.models import Job

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from loop.fidelities import Left

MOST = 100
"""Jobs of a campaign that may wait."""


def ask(session: Session, campaign_id: int, kind: str, **request: Any) -> Job:
    """Ask for a job.

    Raises:
        UsageError: Too many wait already.
    """
    if waiting(session, campaign_id) >= MOST:
        raise UsageError(
            f"{MOST} jobs of this campaign wait already",
            unchanged="everything",
            hint="wait for them",
        )
    job = Job(id=secrets.token_hex(8), campaign_id=campaign_id, kind=kind, request=request)
    session.add(job)
    session.flush()
    return job


def described(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "job": job.id,
        "kind": job.kind,
        "request": job.request,
        "status": job.status,
        "result": job.result,
        "created": job.created.isoformat(),
        "started": job.started.isoformat() if job.started else None,
        "ended": job.ended.isoformat() if job.ended else None,
    }


def waiting(session: Session, campaign_id: int) -> int:
    """How many jobs of a campaign have not ended."""
    found = session.scalar(
        select(func.count()).where(
            Job.campaign_id == campaign_id, Job.status.in_(("queued", "running"))
        )
    )
    return found or 0


def take_up_again(store: Store, campaign_id: int) -> None:
    """Queue what an engine that died had begun; the caller holds the campaign's lock."""
    running = (Job.campaign_id == campaign_id, Job.status == "running")
    with store.read() as session:
        if session.scalar(select(func.count()).where(*running)) == 0:
            return
    with store.write() as session:
        for job in session.scalars(select(Job).where(*running)):
            job.status, job.started = "queued", None


def begin(store: Store, campaign_id: int) -> Job | None:
    """Begin the oldest job that waits; None where none does."""
    query = (
        select(Job)
        .where(Job.campaign_id == campaign_id, Job.status == "queued")
        .order_by(Job.created, Job.id)
        .limit(1)
    )
    with store.read() as session:
        if session.scalar(query) is None:
            return None
    with store.write() as session:
        job = session.scalar(query)
        if job is not None:
            job.status, job.started = "running", store.now(session)
    return job


def propose(store: Store, campaign: Campaign, job: Job) -> None:
    """Propose what a job asks for; its end is in the transaction of the new trials."""
    from campaigns.campaign import Changed

    def end(session: Session, status: str, result: dict[str, Any]) -> None:
        row = session.get_one(Job, job.id)
        row.status, row.result, row.ended = status, result, store.now(session)

    left = campaign._left()
    assert left.trials is not None
    n = min(job.request.get("n") or campaign.spec.budget.batch, left.trials)
    try:
        if n < 1:
            raise UsageError(
                "the budget is spent", unchanged="the campaign", hint="raise budget in the spec"
            )
        make(
            campaign, n, left, lambda s, new: end(s, "done", {"trials": new}),
            near=job.request.get("near") or (),
        )  # fmt: skip
    except Changed:
        raise  # the job is taken up again
    except MatloopError as error:
        with store.write() as session:
            end(session, "failed", error.as_dict())


def mirror(store: Store, campaign: Campaign, job: Job) -> None:
    """Let Ax's analyses be made; the views tell how far they are."""
    from campaigns.service import ax_mirrors

    ax_mirrors.begin(campaign)
    with store.write() as session:
        row = session.get_one(Job, job.id)
        row.status, row.result, row.ended = "done", {"view": "ax"}, store.now(session)


def make(
    campaign: Campaign,
    n: int,
    left: Left,
    also: Callable[[Session, list[int]], None] | None = None,
    near: Sequence[int] = (),
) -> None:
    """Propose and store n trials; the caller holds the campaign's lock.

    Args:
        campaign: Whose.
        n: How many.
        left: Of the budget.
        also: Called in the transaction that stores them.
        near: Trials in whose neighbourhood to look; none = everywhere.
    """

    def whole(session: Session, new: list[int]) -> None:
        if also is not None:
            also(session, new)
        reached("engine:before-commit")

    @contextmanager
    def computing() -> Iterator[None]:
        reached("engine:fitting")
        yield

    campaign._propose(n, left, computing, whole, near)
    reached("engine:after-commit")
