"""When a campaign's Ax analyses are made: by a process of its own, after results and in quiet.

The engine calls `tend` whenever it has nothing to do for a campaign. Of all campaigns of an engine,
one is mirrored at a time: Ax takes half a gigabyte.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns.service.view_data import mark
from campaigns.statuses import FAILED
from campaigns.store.models import Trial, View

if TYPE_CHECKING:
    from campaigns.campaign import Campaign

QUIET: Final = 20.0
"""Seconds without an event after which what came since is mirrored, ..."""

NEWS: Final = 5
"""... and results after which it is without waiting for that; of many trials, a fifth of them."""

MOST: Final = 2000
"""Trials up to which it is done unasked."""

_LOOK: Final = 5.0

_log = logging.getLogger("matloop.engine")


@dataclass
class _Of:
    """What is known of one campaign's mirror: of which mark it is, and what was seen since."""

    process: subprocess.Popen[bytes] | None = None
    begun: tuple[int, int] | None = None
    mark: tuple[int, int] | None = None
    ended: int = 0
    rev: int = -1
    since: float = 0.0
    looked: float = float("-inf")
    settled: bool = False


_known: dict[tuple[str, str], _Of] = {}


def _of(campaign: Campaign) -> _Of:
    return _known.setdefault((campaign.store.url, campaign.name), _Of())


def _busy() -> bool:
    return any(of.process is not None and of.process.poll() is None for of in _known.values())


def begin(campaign: Campaign) -> None:
    """Let the analyses be made now, if they are not being made."""
    of = _of(campaign)
    if of.process is not None and of.process.poll() is None:
        return  # what came meanwhile is mirrored when it has ended
    with campaign.store.read() as session:
        of.begun = mark(session, campaign._row.id)
    # The database's URL may hold a password: not on the command line, which all can read.
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    env = os.environ | one | {"MATLOOP_DB": campaign.store.url, "CUDA_VISIBLE_DEVICES": ""}
    of.settled = False
    of.process = subprocess.Popen(
        [sys.executable, "-m", "campaigns.service.ax_mirror", campaign.name],
        stdin=subprocess.PIPE,  # it ends with us
        env=env,
    )


def tend(campaign: Campaign, rev: int) -> None:
    """Begin where it is time; costs nothing where no event came.

    Args:
        campaign: Whose.
        rev: Its newest event.
    """
    of, now = _of(campaign), time.monotonic()
    if of.process is not None:
        status = of.process.poll()
        if status is None:
            return
        assert of.process.stdin is not None
        of.process.stdin.close()
        of.process = None
        _ended(campaign, of, status)
    if rev != of.rev:
        of.rev, of.since, of.settled = rev, now, False
    quiet = now - of.since >= QUIET
    if of.settled or (now - of.looked < _LOOK and not quiet):
        return
    of.looked = now
    with campaign.store.read() as session:
        seen = mark(session, campaign._row.id)
        ended, trials = count_ended(session, campaign._row.id)
        if of.mark is None:
            _recall(session, campaign._row.id, of)
    if seen == of.mark or not ended or trials > MOST:
        of.settled = True
    elif (quiet or ended - of.ended >= max(NEWS, ended // 5)) and not _busy():
        of.ended = ended
        begin(campaign)


def count_ended(session: Session, campaign: int) -> tuple[int, int]:
    """Trials that ended, and all."""
    over = Trial.status.in_(("completed", *FAILED))
    row = session.execute(
        select(func.count().filter(over), func.count()).where(Trial.campaign_id == campaign)
    ).one()
    return row[0], row[1]


def _recall(session: Session, campaign: int, of: _Of) -> None:
    """Of what the mirror is that is kept, where an engine before this one made it."""
    view = session.scalar(select(View).where(View.campaign_id == campaign, View.name == "ax"))
    of.mark = (0, 0)
    if view is not None and view.data.get("state") == "done":
        a, b = view.data["mark"]
        of.mark = (int(a), int(b))
        of.ended = int(view.data.get("ended") or 0)


def _ended(campaign: Campaign, of: _Of, status: int) -> None:
    if status == 0:
        of.mark = None  # as the view says: results may have come before it was read
        return
    of.mark, of.settled = of.begun, True  # not again for the same results
    _log.warning("Ax's analyses of %s: the process died (status %s)", campaign.name, status)
    with campaign.store.write() as session:
        row = campaign._row.id
        view = session.scalar(select(View).where(View.campaign_id == row, View.name == "ax"))
        if view is None:
            error = {
                "what": "Ax's analyses could not be made",
                "why": f"the process died (status {status})",
                "hint": "they are tried again after the next results; see the server's log",
            }
            told = {"source": campaign.name, "state": "done", "error": error, "experiment": None,
                    "cards": [], "read": None, "mark": list(of.begun or (0, 0))}  # fmt: skip
            session.add(View(campaign_id=row, name="ax", rev=of.rev, data=told))
        elif view.data.get("state") == "computing":
            cards = [c | {"state": "done" if c["state"] == "done" else "waiting"}
                     for c in view.data["cards"]]  # fmt: skip
            view.data = view.data | {"state": "interrupted", "cards": cards}
