"""What every adapter does: take trials, keep them alive, answer them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from campaigns.client import Client
from campaigns.errors import MatloopError
from campaigns.keeping import Keeper
from campaigns.leases import Lease


class Bench:
    """The trials that an instrument has at the moment.

    Args:
        client: The server.
        campaign: The campaign's name.
        worker: What the campaign's pages call this instrument.
        patience: Seconds to wait for trials, where the server has none ready yet.
        ttl: Seconds of silence after which another may have a trial; default: the campaign's.
    """

    def __init__(
        self,
        client: Client,
        campaign: str,
        worker: str,
        patience: float = 600.0,
        ttl: float | None = None,
    ) -> None:
        self.client, self.campaign, self.worker = client, campaign, worker
        self.patience, self.ttl = patience, ttl
        self.keeper = Keeper(client)

    def take(self, n: int) -> list[Lease]:
        """Up to n trials, waiting until there is one.

        Raises:
            MatloopError: There was none within the patience, or the campaign has ended.
        """
        deadline = time.monotonic() + self.patience
        key, pause = uuid4().hex, 0.2
        while True:
            found = self.client.lease(
                self.campaign, n, worker=self.worker, ttl=self.ttl, idempotency_key=key
            )
            if found:
                for lease in found:
                    self.keeper.hold(lease)
                return found
            key = uuid4().hex
            why = self.ended()
            if why is not None or time.monotonic() > deadline:
                raise MatloopError(
                    f"campaign {self.campaign} has no trial to give",
                    where=self.client.url,
                    why=why or f"none was ready within {self.patience:g} s",
                    unchanged="the campaign",
                    hint="its page says what it waits for: `matloop status`, or the browser",
                )
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def report(self, trial: int, metrics: Mapping[str, Any], **more: Any) -> None:
        """Hand in what was measured of a trial; what is no finite number fails it."""
        lease = self.keeper.get(trial)
        if lease is None:
            self.client.observe(self.campaign, wanted(metrics, self.units()), trial=trial)
            return
        measured = wanted(metrics, lease.units)
        missing = [name for name in lease.units if name not in measured]
        if missing:
            self.fail(trial, f"no value of {', '.join(missing)}")
            return
        self.client.report(lease, measured, **more)
        self.keeper.drop(trial)

    def fail(self, trial: int, reason: str, lost: bool = False) -> None:
        """Say that a trial has no result."""
        lease = self.keeper.get(trial)
        if lease is not None:
            self.client.fail(lease, reason, "lost" if lost else "failed")
            self.keeper.drop(trial)

    def units(self) -> dict[str, str]:
        """The campaign's metrics and their units."""
        return self.client.units(self.campaign)

    def ended(self) -> str | None:
        """Why the campaign gives out no trials any more; None while it does."""
        status = self.client.status(self.campaign)
        state = str(status.get("state") or "")
        if state in ("stopped", "ended", "paused", "done"):
            return f"the campaign is {state}"
        return None

    def best(self) -> list[dict[str, Any]]:
        """The trials that no other one beats; all that are feasible, where nothing is better."""
        front = set(self.client.status(self.campaign).get("front") or ())
        found = self.client.trials(self.campaign, status="completed")
        return [trial for trial in found if trial["trial"] in front]

    def close(self) -> None:
        """Hand back what was not answered."""
        for lease in self.keeper.held():
            self.client.fail(lease, f"{self.worker} ended", "lost")
            self.keeper.drop(lease.trial)
        self.keeper.close()


def wanted(metrics: Mapping[str, Any], units: Mapping[str, str]) -> dict[str, Any]:
    """Of what an instrument tells, the campaign's metrics that are finite numbers.

    Numbers of numpy are numbers; a pair is a number with its standard error.
    """
    found: dict[str, Any] = {}
    for name in units:
        said = metrics.get(name)
        if isinstance(said, Mapping):
            found[name] = {"unit": units[name], **said}
            continue
        pair = list(said) if isinstance(said, tuple | list) and len(said) == 2 else [said, None]
        numbers = [None if x is None else _number(x) for x in pair]
        if numbers[0] is None or any(x is not None and not math.isfinite(x) for x in numbers):
            continue
        found[name] = {"value": numbers[0], "unit": units[name]}
        if numbers[1] is not None:
            found[name]["sem"] = numbers[1]
    return found


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
