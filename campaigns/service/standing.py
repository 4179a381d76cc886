"""Where a campaign stands, as often as anybody asks: computed once an event."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns.service import described
from campaigns.service.core import Service
from campaigns.store.models import CampaignRow, Event


def newest(session: Session, campaign_id: int) -> int:
    """The id of a campaign's last event; 0 before the first."""
    found = session.scalar(select(func.max(Event.id)).where(Event.campaign_id == campaign_id))
    return found or 0


def status(here: Service, name: str) -> dict[str, Any]:
    """`Campaign.status`, and what `described.around` adds; runs in a thread.

    Raises:
        Refused: There is no such campaign.
    """
    from campaigns.campaign import Campaign

    with here.store.read() as session:
        known = here.campaign(session, name)
        rev = newest(session, known.id)
        around = described.around(session, known)
        row = session.get_one(CampaignRow, known.id)
        session.expunge(row)
    kept = here.kept.get(known.id)
    if kept is None or kept[0] != (rev, known.spec_hash):
        told = Campaign(here.store, row).status(cheap=True)
        kept = here.kept[known.id] = ((rev, known.spec_hash), told)
    return {"name": name, **kept[1], **around, "rev": rev}
