"""One writer: changes that wait at the same time share a transaction, and so its fsync.

A commit that is on the disk costs milliseconds, whatever it holds. Fifty workers that report at
once would wait for fifty of them in a row; here they wait for one or two. Nobody is answered before
the commit. A change that is refused before it wrote leaves the others alone; where one fails in its
midst, all are made again, each in a savepoint of its own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from campaigns.service import idempotency
from campaigns.store import Store

T = TypeVar("T")
Change = Callable[[Session], Any]

TOGETHER: Final = 64
"""Changes in one transaction at most: so that a reader of the first waits for no more."""


class Writer:
    """A thread that makes changes, in the order in which they come.

    Args:
        store: Where to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: queue.SimpleQueue[tuple[Change, Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="matloop-writer", daemon=True)
        self._thread.start()

    async def change(self, change: Callable[[Session], T]) -> T:
        """Make a change; returns once it is on the disk.

        Args:
            change: Given the session; what it raises undoes it, and it alone.

        Raises:
            MatloopError: The database failed; nothing was changed.
            Exception: Whatever `change` raises.
        """
        return await asyncio.wrap_future(self.submit(change))

    def submit(self, change: Callable[[Session], T]) -> Future[T]:
        """The same for a thread: what will be returned."""
        future: Future[T] = Future()
        self._waiting.put((change, future))
        return future

    def close(self) -> None:
        """Make the changes that wait, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < TOGETHER and not last:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[tuple[Change, Future[Any]]]) -> None:
        batch = [one for one in batch if one[1].set_running_or_notify_cancel()]
        try:
            try:
                results = self._made([change for change, _ in batch], savepoints=False)
            except _Again:
                results = self._made([change for change, _ in batch], savepoints=True)
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, _Raised):
                future.set_exception(result.error)
            else:
                future.set_result(result)

    def _made(self, changes: list[Change], savepoints: bool) -> list[Any]:
        """Make changes in one transaction; by change what it returned, or raised.

        Without savepoints, one that raises after it wrote takes the others with it.

        Raises:
            _Again: That happened.
        """
        results: list[Any] = []
        with self._store.write() as session:
            for change in changes:
                before = 0 if savepoints else self._store.writes(session)
                try:
                    if savepoints:
                        with session.begin_nested():
                            results.append(change(session))
                    else:
                        results.append(change(session))
                        session.flush()
                # whatever it is, it is its caller's, who gets it
                except Exception as error:
                    if not savepoints and (
                        isinstance(error, DBAPIError)
                        or session.new
                        or session.dirty
                        or self._store.writes(session) != before
                    ):
                        raise _Again from error
                    results.append(_Raised(error))
                session.expunge_all()
            idempotency.keep(session)
        return results


class _Again(Exception):
    """The transaction must be made again, with savepoints."""


@dataclass(frozen=True)
class _Raised:
    """What a change raised."""

    error: Exception
