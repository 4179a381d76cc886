"""A campaign as an Ax experiment, and Ax's analyses of that: a process that keeps them as views.

Run as `python -m campaigns.service.ax_mirror CAMPAIGN` with ``MATLOOP_DB``. It ends when its
standard input does, and may be killed at any instant: each analysis is kept when it is made. The
analyses are made in a child, which may die or hang over one without harm to the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select

from campaigns.errors import MatloopError
from campaigns.service.ax_mirrors import count_ended
from campaigns.service.standing import newest
from campaigns.service.view_data import mark
from campaigns.store.models import View

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from campaigns.ax_cards import Cards, Wanted
    from campaigns.campaign import Campaign

PATIENCE: Final = 300.0
"""Seconds that one analysis may take."""

_children: list[Any] = []


def mirror(campaign: Campaign) -> list[int]:
    """Compute the analyses of a campaign as it is now, and keep each.

    The view `ax` tells what there is, in the words of `campaigns.ax_worker`; an analysis is in the
    view `ax/KEY`.

    Returns:
        The mark (`view_data.mark`) of what was mirrored.
    """
    from campaigns.ax_cards import Cards, describe, plan, stamp, waiting
    from campaigns.export_ax import ax_client, quiet

    with quiet():
        import ax.api.client  # noqa: F401  (it takes seconds, in which results may come)
    with campaign.store.read() as session:
        rev, now = newest(session, campaign._row.id), list(mark(session, campaign._row.id))
        ended, _ = count_ended(session, campaign._row.id)
    told: dict[str, Any] = {
        "source": campaign.name, "state": "computing", "error": None, "experiment": None,
        "cards": [], "read": None, "mark": now,
        "ended": ended,
    }  # fmt: skip
    try:
        with quiet():
            client = ax_client(campaign)
    except MatloopError as error:
        _keep(campaign, rev, "ax", told | {"state": "done", "error": error.as_dict()})
        return now
    # Ax may refuse whatever a campaign has that it cannot hold: that is said, and nothing is lost.
    except Exception as error:
        refused = MatloopError(
            "the campaign cannot be an Ax experiment", where=campaign.name,
            why=f"{type(error).__name__}: {error}", unchanged="the campaign",
        )  # fmt: skip
        _keep(campaign, rev, "ax", told | {"state": "done", "error": refused.as_dict()})
        return now
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
        made = analyses(cards, wanted)
        for card in told["cards"]:
            card["state"] = "computing"
            _keep(campaign, rev, "ax", told)
            _keep(campaign, rev, f"ax/{card['file']}", next(made))
            card |= {"state": "done", "time": time.time()}
    gone = there - {f"ax/{card['file']}" for card in told["cards"]}
    _keep(campaign, rev, "ax", told | {"state": "done"}, gone)
    return now


def analyses(
    cards: Cards, wanted: list[Wanted], patience: float = PATIENCE
) -> Iterator[dict[str, Any]]:
    """One analysis after the other; in place of one whose process dies or hangs, why."""
    # forked, it need not import Ax again; where that is not safe, it is sent the experiment
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    at = 0
    while at < len(wanted):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=_make, args=(cards, at, there), daemon=True)
        child.start()
        _children.append(child)
        there.close()
        reason = ""
        while at < len(wanted) and not reason:
            try:
                if here.poll(patience):
                    told = json.loads(here.recv_bytes())
                else:
                    reason = f"it took longer than {patience / 60:.0f} minutes"
                    continue
            except EOFError:
                child.join()
                reason = f"its process died (status {child.exitcode})"
                continue
            yield told
            at += 1
        child.kill()
        child.join()
        _children.remove(child)
        here.close()
        if reason:
            one = wanted[at]
            yield {"key": one.key, "group": one.group, "title": one.title, "cards": [],
                   "reason": reason, "seconds": None}  # fmt: skip
            at += 1


def _make(cards: Cards, first: int, to: Connection) -> None:
    from campaigns.ax_cards import plan

    for one in plan(cards.experiment)[first:]:
        to.send_bytes(json.dumps(cards.make(one)).encode())


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
        for child in list(_children):
            child.kill()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    logging.disable(logging.CRITICAL)  # what an analysis stumbles over is told in its place
    os.nice(5)  # beside the engine's own: proposals and requests come first
    with Campaign.open(sys.argv[1], os.environ["MATLOOP_DB"]) as campaign:
        mirror(campaign)


if __name__ == "__main__":
    main()
