"""A campaign as an Ax experiment, and Ax's analyses of that: a process that keeps them as views.

Run as `python -m campaigns.service.ax_mirror CAMPAIGN` with ``MATLOOP_DB``. It ends when its
standard input does, and may be killed at any instant: each analysis is kept when it is made.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from campaigns.errors import MatloopError
from campaigns.service.standing import newest
from campaigns.service.view_data import mark
from campaigns.store.models import View

if TYPE_CHECKING:
    from campaigns.campaign import Campaign


def mirror(campaign: Campaign) -> list[int]:
    """Compute the analyses of a campaign as it is now, and keep each.

    The view `ax` tells what there is, in the words of `campaigns.ax_worker`; an analysis is in the
    view `ax/KEY`.

    Returns:
        The mark (`view_data.mark`) of what was mirrored.
    """
    with campaign.store.read() as session:
        rev, now = newest(session, campaign._row.id), list(mark(session, campaign._row.id))
    told: dict[str, Any] = {
        "source": campaign.name, "state": "computing", "error": None, "experiment": None,
        "cards": [], "read": None, "mark": now,
    }  # fmt: skip
    try:
        from campaigns.export_ax import ax_client, quiet

        with quiet():
            client = ax_client(campaign)
    except MatloopError as error:
        _keep(campaign, rev, "ax", told | {"state": "done", "error": error.as_dict()})
        return now
    from campaigns.ax_cards import Cards, describe, plan, stamp, waiting

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cards = Cards(client._experiment, client._generation_strategy)
        wanted = plan(cards.experiment)
        told["experiment"] = describe(client._experiment) | {"capped": cards.capped}
        told["read"] = stamp()
        told["cards"] = waiting(wanted)
        with campaign.store.read() as session:
            there = set(
                session.scalars(
                    select(View.name).where(
                        View.campaign_id == campaign._row.id, View.name.like("ax/%")
                    )
                )
            )
        for card in told["cards"]:
            card["file"] = hashlib.sha256(card["key"].encode()).hexdigest()[:12]
        for card, one in zip(told["cards"], wanted, strict=True):
            card["state"] = "computing"
            _keep(campaign, rev, "ax", told)
            _keep(campaign, rev, f"ax/{card['file']}", cards.make(one))
            card |= {"state": "done", "time": time.time()}
    gone = there - {f"ax/{card['file']}" for card in told["cards"]}
    _keep(campaign, rev, "ax", told | {"state": "done"}, gone)
    return now


def _keep(
    campaign: Campaign, rev: int, name: str, data: dict[str, Any], gone: set[str] | None = None
) -> None:
    with campaign.store.write() as session:
        of = View.campaign_id == campaign._row.id
        view = session.scalar(select(View).where(of, View.name == name))
        if view is None:
            session.add(View(campaign_id=campaign._row.id, name=name, rev=rev, data=data))
        else:
            view.rev, view.data, view.created = rev, dict(data), campaign.store.now(session)
        if gone:
            session.execute(delete(View).where(of, View.name.in_(gone)))


def main() -> None:
    """Mirror the campaign that is named."""
    from campaigns.campaign import Campaign

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    logging.disable(logging.WARNING)
    os.nice(5)
    with Campaign.open(sys.argv[1], os.environ["MATLOOP_DB"]) as campaign:
        mirror(campaign)


if __name__ == "__main__":
    main()
