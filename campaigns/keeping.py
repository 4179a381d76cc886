"""Keep leases alive while an instrument works, in a thread of its own."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from campaigns.client import Client, Refused, Unreachable
from campaigns.errors import MatloopError
from campaigns.leases import Lease


class Keeper:
    """Sends the heartbeats of the leases it is given; use it as a context manager, or `close` it.

    Args:
        client: The server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[int, tuple[Lease, float, float | None]] = {}
        self._ended: dict[int, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="matloop-heartbeats", daemon=True)
        self._thread.start()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def hold(self, lease: Lease) -> None:
        """Keep a lease alive from now on."""
        with self._lock:
            self._held[lease.trial] = (lease, time.monotonic() + lease.ttl / 3, None)
            self._ended.pop(lease.trial, None)

    def progress(self, trial: int, share: float) -> None:
        """Say how much of a trial is done, between 0 and 1, with its next heartbeat."""
        with self._lock:
            if trial in self._held:
                lease, due, _ = self._held[trial]
                self._held[trial] = (lease, due, min(1.0, max(0.0, share)))

    def drop(self, trial: int) -> Lease | None:
        """Keep a lease alive no longer; returns it, None where it was not held."""
        with self._lock:
            self._ended.pop(trial, None)
            held = self._held.pop(trial, None)
        return None if held is None else held[0]

    def get(self, trial: int) -> Lease | None:
        """The lease of a trial that is held, also one that was lost meanwhile."""
        with self._lock:
            held = self._held.get(trial)
        return None if held is None else held[0]

    def held(self) -> list[Lease]:
        """The leases that are kept, in the order in which they came."""
        with self._lock:
            return [lease for lease, _, _ in self._held.values()]

    def ended(self, trial: int) -> str | None:
        """Why a trial need not be worked on any more; None while it should be."""
        with self._lock:
            return self._ended.get(trial)

    def close(self) -> None:
        """End the thread; the leases run out by themselves."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._until_next()):
            with self._lock:
                now = time.monotonic()
                due = [
                    (lease, share)
                    for lease, at, share in self._held.values()
                    if at <= now and lease.trial not in self._ended
                ]
            for lease, share in due:
                self._one(lease, share)

    def _until_next(self) -> float:
        with self._lock:
            now = time.monotonic()
            next_due = min(
                (at for lease, at, _ in self._held.values() if lease.trial not in self._ended),
                default=now + 1.0,
            )
        return min(1.0, max(0.01, next_due - now))

    def _one(self, lease: Lease, share: float | None) -> None:
        pause, why = lease.ttl / 3, None
        try:
            if self._client.heartbeat(lease, share).cancel:
                why = "the campaign was stopped"
        except Unreachable:
            pause = min(5.0, lease.ttl / 10)
        except Refused as error:
            why = error.what
            # Its lease only ran out: nobody else has it, and its result will be taken.
            if error.only_ran_out(lease.token):
                why, pause = None, lease.ttl
        except MatloopError as error:
            why = error.what
        with self._lock:
            if lease.trial in self._held:
                held, _, latest = self._held[lease.trial]
                self._held[lease.trial] = (held, time.monotonic() + pause, latest)
                if why is not None:
                    self._ended[lease.trial] = why
