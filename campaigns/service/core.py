"""What every route needs: the store, its one writer, and the campaigns' specs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns.service.news import News
from campaigns.service.problems import Refused
from campaigns.service.reading import Reader
from campaigns.service.settings import ServiceSettings
from campaigns.service.writer import Writer
from campaigns.store import Store
from campaigns.store.models import CampaignRow, Trial
from campaigns.store.store import begin_campaign

if TYPE_CHECKING:
    from campaigns.spec import Spec

T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """A campaign as a request finds it.

    Attributes:
        id: Of its row.
        name: Its name.
        spec: What it seeks.
        units: The unit of each metric.
        stopped: Whether the emergency stop is on.
        state: What the stop rules say: open, paused or ended.
        spec_hash: Of the spec.
        noted: When a worker's sign of life was written last, by campaign and name.
    """

    id: int
    name: str
    spec: Spec
    units: dict[str, str]
    stopped: bool
    state: str
    spec_hash: str = ""
    noted: dict[tuple[int, str], datetime] = field(default_factory=dict)


class Service:
    """The parts that requests share.

    Args:
        url: The database.
        settings: Limits.
    """

    def __init__(self, url: str | None, settings: ServiceSettings) -> None:
        self.settings = settings
        self.store = Store(url, pooled=True)
        self.writer = Writer(self.store)
        self.reader = Reader()
        self.news = News(self.store, settings.poll)
        self.closing = False
        # by campaign: of which event and spec, and `standing.status`
        self.kept: dict[int, tuple[tuple[int, str], dict[str, Any]]] = {}
        self._noted: dict[tuple[int, str], datetime] = {}
        self._specs: dict[int, tuple[str, Spec, dict[str, str]]] = {}

    def close(self) -> None:
        """Finish what is being written, and close the database."""
        self.closing = True
        self.writer.close()
        self.reader.close()
        self.store.close()

    def campaign(self, session: Session, name: str) -> Known:
        """A campaign by its name.

        Raises:
            Refused: There is none.
        """
        # within a transaction of several changes, it is looked up once
        met: dict[str, Known] = session.info.setdefault("campaigns", {})
        if name in met:
            return met[name]
        row = None
        if name.isprintable() and len(name) <= 64:  # no text that a database cannot take
            row = session.execute(
                select(
                    CampaignRow.id, CampaignRow.spec_hash, CampaignRow.stopped, CampaignRow.state
                ).where(CampaignRow.name == name)
            ).first()
        if row is None:
            raise Refused(404, "there is no such campaign", hint="GET /v1/campaigns lists them")
        kept = self._specs.get(row.id)
        if kept is None or kept[0] != row.spec_hash:
            from campaigns.spec import Spec

            stored = session.execute(
                select(CampaignRow.spec).where(CampaignRow.id == row.id)
            ).scalar_one()
            spec = Spec.model_validate(stored)
            kept = self._specs[row.id] = (row.spec_hash, spec, spec.metric_units())
        met[name] = Known(
            row.id, name, kept[1], kept[2], row.stopped, row.state, row.spec_hash, self._noted
        )
        return met[name]

    def now(self, session: Session) -> datetime:
        """The time by the database's clock; one for all changes of a transaction."""
        if "now" not in session.info:
            session.info["now"] = self.store.now(session)
        told: datetime = session.info["now"]
        return told

    def begin(self, session: Session, spec: dict[str, Any], text: str) -> CampaignRow:
        """Begin a campaign.

        Args:
            session: Of the transaction.
            spec: As the reader read it.
            text: As it was written.

        Raises:
            Refused: There is one of this name.
        """
        if session.scalar(select(CampaignRow.id).where(CampaignRow.name == spec["campaign"])):
            raise Refused(
                409,
                f"there is a campaign {spec['campaign']!r} already",
                unchanged="that campaign",
                hint="give the spec another name",
                kind="name",
            )
        return begin_campaign(session, spec, text)

    def read(self, ask: Callable[[Session], T]) -> T:
        """What `ask` finds in one consistent state of the database."""
        with self.store.read() as session:
            return ask(session)


def trial_of(session: Session, known: Known, index: int) -> Trial:
    """A trial by its number.

    Raises:
        Refused: There is none.
    """
    found = None
    if 0 <= index < 2**31:
        found = session.scalar(
            select(Trial).where(Trial.campaign_id == known.id, Trial.index == index)
        )
    if found is None:
        raise no_trial(known, index)
    return found


def no_trial(known: Known, index: int) -> Refused:
    """What is told where there is no such trial."""
    return Refused(404, f"there is no trial {index}", detail=f"in campaign {known.name}")


def of_app(request: Request) -> Service:
    """The service that answers a request."""
    service: Any = request.app.state.service
    assert isinstance(service, Service)
    return service


Here = Annotated[Service, Depends(of_app)]
