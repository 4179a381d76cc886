"""The engine: a process that proposes ahead of need, learns from what came in, and does jobs.

It ends when its standard input does, that is with the server that started it. It may be killed at
any instant: what it does is in the store whole, or not at all. Several engines on one database take
turns by the campaign's lock.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, update

from campaigns import fidelities, stopping
from campaigns.campaign import Campaign, Changed, NoDesign
from campaigns.errors import MatloopError
from campaigns.service import ax_mirrors, idempotency, jobs, leases
from campaigns.service.core import Known
from campaigns.service.standing import newest
from campaigns.store import Store
from campaigns.store.models import CampaignRow, Trial, View
from campaigns.store.store import record

POLL: Final = 0.25
"""Seconds between looks at the database where nothing is to be done."""

PULSE: Final = timedelta(seconds=5)
"""How often the engine says that it lives."""

AGAIN: Final = 30.0
"""Seconds after which what failed is tried again, where nothing changed."""

VIEWS: Final = "campaigns.service.view_data"
"""A module whose `compute(campaign)` gives what pages show, by name."""

_log = logging.getLogger("matloop.engine")


class Engine:
    """Tends the campaigns of one database.

    Args:
        store: The database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._campaigns: dict[int, tuple[str, Campaign]] = {}
        self._seen: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._cleaned = 0.0

    def step(self) -> bool:
        """Look at every campaign once, and do what is due.

        Returns:
            Whether anything was done.
        """
        with self._store.read() as session:
            rows = session.scalars(select(CampaignRow).order_by(CampaignRow.id)).all()
        busy = False
        for row in rows:
            try:
                busy |= self._tend(row)
            except Changed:
                busy = True
            except MatloopError as error:
                self._failed(row, error.what, error.why)
            # whatever it is: the other campaigns go on, and a person is told
            except Exception as error:
                _log.exception("campaign %s", row.name)
                self._failed(row, f"the engine failed: {type(error).__name__}", str(error))
        if time.monotonic() - self._cleaned > 3600:
            self._cleaned = time.monotonic()
            with self._store.write() as session:
                idempotency.forget(session, self._store.now(session))
        return busy

    def _failed(self, row: CampaignRow, what: str, why: str | None) -> None:
        self._not_before[row.id] = time.monotonic() + AGAIN
        self._say(row, f"{what}: {why}" if why else what)

    def _tend(self, row: CampaignRow) -> bool:
        campaign = self._campaign(row)
        with self._store.read() as session:
            now = self._store.now(session)
            late = session.scalar(
                select(func.count()).where(
                    Trial.campaign_id == row.id,
                    Trial.status == "running",
                    Trial.lease_expires < now,
                )
            )
            rev = newest(session, row.id)
            asked = jobs.waiting(session, row.id)
        if late:
            with self._store.write() as session:
                known = _known(campaign, row)
                leases.expire(session, known, self._store.now(session))
        unchanged = rev == self._seen.get(row.id) and not late and not asked
        if unchanged or time.monotonic() < self._not_before.get(row.id, 0.0):
            self._say(row, None)
            ax_mirrors.tend(campaign, rev)
            return bool(late)
        with self._store.runner_lock(row):
            done = self._work(campaign, row)
        with self._store.read() as session:
            # what came during the work is looked at next time
            self._seen[row.id] = rev if not done else -1
        self._not_before.pop(row.id, None)
        return done

    def _work(self, campaign: Campaign, row: CampaignRow) -> bool:
        """What is due of a campaign whose lock is held; whether anything was done."""
        jobs.take_up_again(self._store, row.id)
        done = False
        while (job := jobs.begin(self._store, row.id)) is not None:
            if job.kind == "ax":
                jobs.mirror(self._store, campaign, job)
                continue
            self._say(row, f"proposing, as job {job.id} asks")
            jobs.propose(self._store, campaign, job)
            done = True
        verdicts = stopping.standing(campaign)
        state = self._judged(campaign, row, verdicts)
        if verdicts:
            self._say(row, f"{state}: {stopping.sentence(verdicts)}")
            return done | self._show(campaign, row)
        if row.stopped:
            self._say(row, "stopped")
            return done | self._show(campaign, row)
        left = campaign._left()
        assert left.trials is not None
        with self._store.read() as session:
            waiting = session.scalar(
                select(func.count()).where(
                    Trial.campaign_id == row.id,
                    Trial.status == "candidate",
                    Trial.held.is_(False),
                )
            )
        n = min(campaign.spec.budget.batch - (waiting or 0), left.trials)
        if n > 0 and fidelities.pays(campaign.spec, left):
            self._say(row, f"proposing {n}")
            try:
                jobs.make(campaign, n, left)
                done = True
                self._say(row, "waiting for results")
            except NoDesign as error:
                self._say(row, f"no new design is left: {error.why or error.what}")
        elif left.trials < 1 or not fidelities.pays(campaign.spec, left):
            self._say(row, "the budget is spent")
        else:
            self._say(row, "waiting for results")
        return done | self._show(campaign, row)

    def _judged(self, campaign: Campaign, row: CampaignRow, verdicts: Any) -> str:
        """Write what the stop rules say, where that is news; the campaign's state."""
        asks = stopping.asks(campaign.spec, verdicts)
        state = ("paused" if asks else "ended") if verdicts else "open"
        if state == row.state:
            return state
        with self._store.write() as session:
            session.get_one(CampaignRow, row.id).state = state
            if verdicts:
                if asks:
                    stopping.ask(session, campaign, verdicts)
                record(
                    session, row.id, "run_ended",
                    reason="paused" if asks else verdicts[0].rule,
                    message=stopping.sentence(verdicts), state=state, **stopping.tell(verdicts),
                )  # fmt: skip
            else:
                record(session, row.id, "state_changed", state=state)
        row.state = state
        return state

    def _show(self, campaign: Campaign, row: CampaignRow) -> bool:
        """Compute what pages show, where something is installed that knows how."""
        compute = _compute_views()
        if compute is None:
            return False
        with self._store.read() as session:
            rev = newest(session, row.id)
            known = {
                v.name: v.rev
                for v in session.scalars(
                    select(View).where(View.campaign_id == row.id, View.name.not_like("ax%"))
                )
            }
        if known and min(known.values()) >= rev:
            return False
        found = compute(campaign)
        with self._store.write() as session:
            for name, data in found.items():
                view = session.scalar(
                    select(View).where(View.campaign_id == row.id, View.name == name)
                )
                if view is None:
                    session.add(View(campaign_id=row.id, name=name, rev=rev, data=data))
                else:
                    view.rev, view.data, view.created = rev, data, self._store.now(session)
        return True

    def _campaign(self, row: CampaignRow) -> Campaign:
        """The campaign, with what it loaded before, unless its spec changed."""
        kept = self._campaigns.get(row.id)
        if kept is None or kept[0] != row.spec_hash:
            kept = self._campaigns[row.id] = (row.spec_hash, Campaign(self._store, row))
            self._seen.pop(row.id, None)
        return kept[1]

    def _say(self, row: CampaignRow, says: str | None) -> None:
        """Say that the engine lives, and what it does; None = as before."""
        now = datetime.now(row.created.tzinfo)
        says = row.engine_says if says is None else says
        if says == row.engine_says and row.engine_seen and now - row.engine_seen < PULSE:
            return
        with self._store.write() as session:
            now = self._store.now(session)
            session.execute(
                update(CampaignRow)
                .where(CampaignRow.id == row.id)
                .values(engine_seen=now, engine_says=says)
            )
        row.engine_seen, row.engine_says = now, says


def _known(campaign: Campaign, row: CampaignRow) -> Known:
    units = campaign.spec.metric_units()
    return Known(row.id, row.name, campaign.spec, units, row.stopped, row.state)


def _compute_views() -> Callable[[Campaign], dict[str, Any]] | None:
    if importlib.util.find_spec(VIEWS) is None:
        return None
    module = importlib.import_module(VIEWS)
    found: Callable[[Campaign], dict[str, Any]] = module.compute
    return found


def _end_with_server() -> None:
    """End at once when the server does, by whatever: its end closes our standard input."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="matloop-parent", daemon=True).start()


def main() -> None:
    """Tend the campaigns of ``MATLOOP_DB`` until the server ends."""
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    # Ctrl-C reaches every process of the terminal; the server tells this one when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_server()
    os.nice(5)  # a request comes before a fit
    engine = Engine(Store(os.environ["MATLOOP_DB"], pooled=True))
    while True:
        try:
            busy = engine.step()
        except MatloopError as error:
            _log.error("%s", error)
            time.sleep(1.0)
            continue
        if not busy:
            time.sleep(POLL)


if __name__ == "__main__":
    main()
