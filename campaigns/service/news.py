"""Whether something happened: one look at the database for everybody who waits."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import func, select

from campaigns.errors import MatloopError
from campaigns.store import Store
from campaigns.store.models import Event


class News:
    """Wakes those who wait, whichever process wrote the news.

    Args:
        store: The database.
        poll: Seconds between looks, while somebody waits.
    """

    def __init__(self, store: Store, poll: float) -> None:
        self._store, self._poll = store, poll
        self._changed = asyncio.Event()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Return when something happened in any campaign, or after so many seconds."""
        self._waiting += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
        finally:
            self._waiting -= 1

    async def _watch(self) -> None:
        last: int | None = None
        while self._waiting:
            try:
                found = await run_in_threadpool(self._newest)
            except MatloopError:
                found = last or 0  # whoever waits looks for himself, and is told
            if last is not None and found != last:
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            last = found
            await asyncio.sleep(self._poll)

    def _newest(self) -> int:
        with self._store.read() as session:
            return session.scalar(select(func.max(Event.id))) or 0
