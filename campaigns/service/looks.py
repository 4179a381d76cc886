"""A campaign's facts for whoever looks, read again only where trials changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from campaigns.service.core import Service
from campaigns.service.standing import newest
from campaigns.store.models import CampaignRow, Observation, SurrogateFit, Trial, View

if TYPE_CHECKING:
    from campaigns.facts import Facts

KEPT: Final = 8
"""Campaigns whose trials are kept in memory, those that were looked at last."""


@dataclass
class Look:
    """A campaign at one event.

    Attributes:
        rev: The event.
        facts: What there is to see; without events and generators.
        views: What the engine computed, by name: of which event, and what.
    """

    rev: int
    facts: Facts
    views: dict[str, tuple[int, dict[str, Any]]]
    made: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    marks: dict[int, tuple[int, int]] = field(default_factory=dict)
    trials: dict[int, dict[str, Any]] = field(default_factory=dict)
    sought: dict[int, bool] = field(default_factory=dict)
    spec_hash: str = ""
    look: tuple[tuple[Any, ...], Look] | None = None


class Looks:
    """The campaigns that are looked at.

    Args:
        here: The service.
    """

    def __init__(self, here: Service) -> None:
        self._here = here
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def at(self, name: str) -> Look:
        """A campaign as it is now; runs in a thread.

        Raises:
            Refused: There is none of this name.
        """
        with self._here.store.read() as session:
            known = self._here.campaign(session, name)
            with self._lock:
                kept = self._kept.setdefault(known.id, _Kept())
                self._kept.move_to_end(known.id)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            with kept.lock:  # of several who ask at once, one reads
                return self._read(session, known.id, known.spec_hash, kept)

    def made(self, name: str, key: str, make: Callable[[Look], Any]) -> tuple[int, Any]:
        """What `make` finds, made once for each event; and the event.

        Raises:
            Refused: There is no such campaign.
        """
        look = self.at(name)
        if key not in look.made:
            look.made[key] = make(look)
        return look.rev, look.made[key]

    def _read(self, session: Session, campaign: int, spec_hash: str, kept: _Kept) -> Look:
        rev = newest(session, campaign)
        computed = {
            name: (id_, at)
            for id_, name, at in session.execute(
                select(View.id, View.name, View.rev).where(View.campaign_id == campaign)
            )
            if not name.startswith("ax")
        }
        key = (rev, spec_hash, tuple(sorted((n, at) for n, (_, at) in computed.items())))
        if kept.look is not None and kept.look[0] == key:
            return kept.look[1]
        if kept.spec_hash != spec_hash:  # by which it is judged what counts
            kept.marks, kept.spec_hash = {}, spec_hash
        self._changed_trials(session, campaign, kept)
        row = session.get_one(CampaignRow, campaign)
        fit = session.scalar(
            select(SurrogateFit)
            .where(SurrogateFit.campaign_id == campaign)
            .order_by(SurrogateFit.id.desc())
            .limit(1)
        )
        facts = self._facts(row, kept, fit)
        views = {
            name: (at, dict(session.get_one(View, id_).data))
            for name, (id_, at) in computed.items()
        }
        look = Look(rev, facts, views)
        kept.look = (key, look)
        return look

    def _changed_trials(self, session: Session, campaign: int, kept: _Kept) -> None:
        last = (
            select(Observation.trial_id, func.max(Observation.id))
            .join(Trial, Trial.id == Observation.trial_id)
            .where(Trial.campaign_id == campaign)
            .group_by(Observation.trial_id)
        )
        measured: dict[int, int] = {row[0]: row[1] for row in session.execute(last)}
        marks = {
            id_: (rev, measured.get(id_, 0))
            for id_, rev in session.execute(
                select(Trial.id, Trial.rev).where(Trial.campaign_id == campaign)
            )
        }
        changed = [id_ for id_, mark in marks.items() if kept.marks.get(id_) != mark]
        from campaigns import records
        from campaigns.fidelities import counting

        spec = self._here.campaign(session, session.get_one(CampaignRow, campaign).name).spec
        for begin in range(0, len(changed), 500):
            found = list(
                session.scalars(
                    select(Trial)
                    .where(Trial.id.in_(changed[begin : begin + 500]))
                    .options(selectinload(Trial.observations))
                )
            )
            for trial, counts in zip(found, counting(spec, found), strict=True):
                kept.trials[trial.id] = records.trial_dict(trial)
                kept.sought[trial.id] = counts
                session.expunge(trial)
        kept.marks = marks

    def _facts(self, row: CampaignRow, kept: _Kept, fit: SurrogateFit | None) -> Facts:
        from campaigns.campaign import Campaign
        from campaigns.facts import Facts

        campaign = Campaign(self._here.store, row)
        order = sorted(kept.marks, key=lambda id_: kept.trials[id_]["trial"])
        fits = []
        if fit is not None:
            fits = [
                {"trials": fit.trials, "created": fit.created.isoformat(), "report": fit.report}
            ]
        return Facts(
            name=row.name,
            database=self._here.store.where,
            created=row.created,
            spec=campaign.spec,
            spec_text=row.spec_text,
            spec_hash=row.spec_hash,
            problem=campaign.goals,
            sought=[kept.sought[id_] for id_ in order],
            trials=[kept.trials[id_] for id_ in order],
            corrected=0,
            events=[],
            fits=fits,
            generators=[],
        )
