"""Where a watched folder's trials come from, and its results go: a server, or a database here."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.client import Client, Refused
from campaigns.errors import InputErrors, MatloopError, Problem, UsageError
from campaigns.keeping import Keeper
from campaigns.leases import Lease
from campaigns.watch_files import with_crystals
from campaigns.write_file import write_whole

if TYPE_CHECKING:
    from campaigns.campaign import Campaign


@dataclass(frozen=True)
class Waiting:
    """A trial that the folder's people are to make.

    Attributes:
        trial: Its number.
        name: The design's.
        fidelity: At which it is to be tried.
        params: Flat.
        crystals: CIF by axis.
    """

    trial: int
    name: str | None
    fidelity: str | None
    params: dict[str, Any]
    crystals: dict[str, str] = field(default_factory=dict)


class Desk(ABC):
    """What a watched folder asks of a campaign.

    Attributes:
        metrics: Units by metric.
        units: Of the parameters, by axis.
        fidelities: Their names.
    """

    metrics: dict[str, str]
    units: dict[str, str]
    fidelities: list[str]

    @abstractmethod
    def waiting(self, n: int) -> list[Waiting]:
        """The trials to make: up to n."""

    @abstractmethod
    def take_in(self, folder: Path, name: str, content: bytes) -> dict[str, Any]:
        """Take in a table, all of it.

        Raises:
            InputErrors: What is wrong with it; nothing was taken in.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


class ServerDesk(Desk):
    """A campaign on a server: its trials are leased, and kept alive as long as this runs.

    Args:
        client: With the scopes read, work and ingest.
        campaign: Its name.
        worker: What its pages call this folder.
        book: A file for the leases, so that the next start has the same trials.
        ttl: Seconds of silence after which another may have them.
    """

    def __init__(
        self, client: Client, campaign: str, worker: str, book: Path, ttl: float | None
    ) -> None:
        self._client, self._campaign, self._worker = client, campaign, worker
        self._book, self._ttl = book, ttl
        status = client.status(campaign)
        self.metrics = dict(status["metrics"])
        self.units = {p["name"]: p.get("unit") or "" for p in status["parameters"]}
        self.fidelities = list(status.get("fidelities") or ())
        self._keeper = Keeper(client)
        if book.exists():
            for told in json.loads(book.read_text("utf-8")):
                self._resume(Lease.from_json(told))

    def waiting(self, n: int) -> list[Waiting]:
        """What is leased, and more where there are fewer than n."""
        for lease in self._keeper.held():
            if self._keeper.ended(lease.trial) is not None:
                self._keeper.drop(lease.trial)
        held = self._keeper.held()
        if len(held) < n:
            for lease in self._client.lease(
                self._campaign, n - len(held), worker=self._worker, ttl=self._ttl
            ):
                self._keeper.hold(lease)
            self._save()
        return [
            Waiting(
                lease.trial,
                lease.name,
                lease.fidelity,
                lease.params,
                {axis: told["cif"] for axis, told in lease.structures.items() if told.get("cif")},
            )
            for lease in sorted(self._keeper.held(), key=lambda lease: lease.trial)
        ]

    def take_in(self, folder: Path, name: str, content: bytes) -> dict[str, Any]:
        """Send it; the trials that it ends are let go of."""
        try:
            done = self._client.ingest(self._campaign, *with_crystals(folder, name, content))
        except Refused as error:
            if error.status not in (400, 409, 413, 422):
                raise
            found = [
                Problem(str(e.get("where") or name), str(e.get("what")), e.get("hint"))
                for e in error.errors
            ]
            one = Problem(name, f"{error.what}: {error.why}" if error.why else error.what)
            raise InputErrors(found or [one], name, error.unchanged) from error
        for trial in [*done.get("completed", ()), *done.get("failed", ())]:
            self._keeper.drop(trial)
        self._save()
        return done

    def close(self) -> None:
        """Stop the heartbeats; the leases stay until they run out, and people go on working."""
        self._keeper.close()
        self._client.close()

    def _resume(self, lease: Lease) -> None:
        try:
            self._client.heartbeat(lease)
        except Refused:
            return  # answered, or another's by now
        self._keeper.hold(lease)

    def _save(self) -> None:
        write_whole(self._book, json.dumps([x.to_json() for x in self._keeper.held()]))


class StoreDesk(Desk):
    """A campaign in a database of this machine: trials are proposed here when too few wait.

    Args:
        campaign: Open.
        tell: Told why nothing more is proposed.
    """

    def __init__(self, campaign: Campaign, tell: Callable[[str], None]) -> None:
        self._campaign, self._tell = campaign, tell
        self.metrics = campaign.spec.metric_units()
        self.units = {
            name: getattr(axis, "unit", None) or "" for name, axis in campaign.spec.space.items()
        }
        self.fidelities = list(campaign.spec.fidelities)
        self._ended = False

    def waiting(self, n: int) -> list[Waiting]:
        """The candidates; new ones are proposed where there are fewer than n."""
        found = self._candidates()
        if len(found) < n and not self._ended:
            try:
                self._campaign.propose(n - len(found))
            except UsageError as error:  # the budget is spent
                self._ended = True
                self._tell(f"no more proposals: {error.what}")
            found = self._candidates()
        return [self._waiting(trial) for trial in found]

    def take_in(self, folder: Path, name: str, content: bytes) -> dict[str, Any]:
        """As `matloop ingest`."""
        path = folder / f".reading-{name}"
        path.write_bytes(content)
        try:
            return self._campaign.ingest(path).as_dict()
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the database."""
        self._campaign.close()

    def _candidates(self) -> list[Mapping[str, Any]]:
        from campaigns import records

        rows = self._campaign._trials()
        return [records.trial_dict(row) for row in rows if row.status == "candidate"]

    def _waiting(self, trial: Mapping[str, Any]) -> Waiting:
        from campaigns.handout import flat_design, is_crystal
        from campaigns.spec_changes import completed

        design = completed(self._campaign.spec, trial["design"])
        crystals = {axis: value["cif"] for axis, value in design.items() if is_crystal(value)}
        return Waiting(
            trial["trial"], trial["name"], trial["fidelity"], flat_design(design), crystals
        )


def open_desk(
    campaign: str,
    *,
    server: str | None,
    key: str | None,
    db: str | None,
    folder: Path,
    ttl: float | None,
    tell: Callable[[str], None],
) -> Desk:
    """The desk of a campaign.

    Raises:
        UsageError: There is no such campaign.
        MatloopError: The server or the database does not answer.
    """
    if server is not None:
        client = Client(server, key)
        try:
            return ServerDesk(client, campaign, f"folder {folder.name}", folder / ".leases", ttl)
        except MatloopError:
            client.close()
            raise
    from campaigns.campaign import Campaign

    return StoreDesk(Campaign.open(campaign, db), tell)
