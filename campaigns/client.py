"""A client of `matloop serve`: what a robot, a worker or a notebook needs, and no torch.

    from campaigns.client import Client

    with Client("http://127.0.0.1:8000", key="mlk_...") as lab:
        for lease in lab.lease("light-stiff", n=2, worker="furnace-1"):
            lab.report(lease, {"density": 3.21})

Every change carries an idempotency key that is made once and kept while the request is tried again,
so an answer that was lost on its way back changes nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from campaigns.client_connection import AGAIN as AGAIN
from campaigns.client_connection import Refused as Refused
from campaigns.client_connection import Unreachable as Unreachable
from campaigns.client_connection import pauses as pauses
from campaigns.client_looking import Onlooker, path_of
from campaigns.leases import Heartbeat, Lease, Metrics, metrics_json

FailKind = Literal["failed", "infeasible", "abandoned", "lost"]
"""How a trial ends without a result. `lost` (wall time, preemption, a node that died) makes it a
candidate again; the others are about the design."""

_RESULTS: Final = {".json": "application/json", ".cif": "chemical/x-cif", ".zip": "application/zip"}


class Client(Onlooker):
    """A connection to a server; use it as a context manager, or call `close`.

    See `Connection` for its arguments.
    """

    # What a worker does

    def lease(
        self,
        campaign: str,
        n: int = 1,
        *,
        worker: str,
        ttl: float | None = None,
        fidelity: str | None = None,
        capabilities: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> list[Lease]:
        """Take trials to answer; fewer than n, or none, where no more are ready.

        Args:
            campaign: Its name.
            n: How many at most.
            worker: Who takes them, for the people who look.
            ttl: Seconds until a lease runs out unless `heartbeat` prolongs it.
            fidelity: Only trials at this one.
            capabilities: What this worker can do, for the campaign's rules.
            idempotency_key: Of an earlier attempt whose answer was lost; default: a new one.

        Raises:
            Refused: The key may not, or there is no such campaign.
            Unreachable: No answer in time.
        """
        asked = {"worker": worker, "n": n, "ttl_s": ttl, "fidelity": fidelity}
        body = {name: value for name, value in asked.items() if value is not None}
        if capabilities:
            body["capabilities"] = list(capabilities)
        told = self._post(path_of(campaign, "leases"), body, idempotency_key)
        return [Lease.from_json(item) for item in told["leases"]]

    def heartbeat(
        self, lease: Lease, progress: float | None = None, note: str | None = None
    ) -> Heartbeat:
        """Say that a trial is being worked on; its lease is prolonged.

        Args:
            lease: Which.
            progress: Between 0 and 1.
            note: What is being done, in a few words.

        Raises:
            Refused: With status 409 where the lease was lost: somebody else may have the trial.
            Unreachable: No answer in time.
        """
        body = {"token": lease.token, "progress": progress, "note": note}
        body = {name: value for name, value in body.items() if value is not None}
        return Heartbeat.from_json(self._post(_of(lease, "heartbeat"), body))

    def report(
        self,
        lease: Lease,
        metrics: Metrics,
        *,
        partial: bool = False,
        realised: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, str] | None = None,
        seconds: float | None = None,
        provenance: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Hand in what was measured.

        Args:
            lease: Of which trial.
            metrics: By name a number, a number with its standard error, or a mapping with `value`
                and, where wanted, `sem` and `unit`. Without a unit, the campaign's is meant.
            partial: More metrics will follow; the lease goes on.
            realised: Parameters as they really were, where they differ from those asked for.
            artifacts: Texts to keep, by file name.
            seconds: How long it took.
            provenance: What answered: software, versions, settings.
            idempotency_key: Of an earlier attempt; default: a new one.

        Raises:
            UsageError: A metric is not a finite number.
            Refused: The lease was lost (409; what was sent is kept as an event), or a metric or a
                unit is wrong (422).
            Unreachable: No answer in time.
        """
        body: dict[str, Any] = {"token": lease.token, "metrics": metrics_json(metrics, lease.units)}
        if partial:
            body["partial"] = True
        if realised:
            body["realised"] = dict(realised)
        if artifacts:
            body["artifacts"] = [
                {"name": name, "media_type": media_type(name), "text": text}
                for name, text in artifacts.items()
            ]
        if seconds is not None:
            body["seconds"] = seconds
        if provenance:
            body["provenance"] = dict(provenance)
        return self._post(_of(lease, "result"), body, idempotency_key)

    def fail(
        self,
        lease: Lease,
        reason: str,
        kind: FailKind = "failed",
        *,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Say that a trial has no result. Raises as `report`."""
        body = {"token": lease.token, "kind": kind, "reason": reason}
        return self._post(_of(lease, "fail"), body, idempotency_key)

    # What a person or an instrument does

    def observe(
        self,
        campaign: str,
        metrics: Metrics,
        *,
        trial: int | None = None,
        params: Mapping[str, Any] | None = None,
        design: Mapping[str, Any] | None = None,
        realised: Mapping[str, Any] | None = None,
        external_id: str | None = None,
        source: str | None = None,
        supersedes: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Hand in what was measured without a lease: history, or a design of your own.

        Args:
            campaign: Its name.
            metrics: As in `report`.
            trial: Of which trial; or else `params` (flat) or `design` (JSON).
            params: The parameters of a design that was not proposed.
            design: The same as the campaign's design space has it.
            realised: As in `report`.
            external_id: Your own name for it; the same one is taken in once.
            source: Where it is from.
            supersedes: The observation that it corrects.
            idempotency_key: Of an earlier attempt; default: a new one.

        Raises:
            UsageError, Refused, Unreachable: As `report`.
        """
        said = {
            "trial": trial,
            "params": None if params is None else dict(params),
            "design": None if design is None else dict(design),
            "realised": None if realised is None else dict(realised),
            "external_id": external_id,
            "source": source,
            "supersedes": supersedes,
        }
        body = {name: value for name, value in said.items() if value is not None}
        said_units = all(isinstance(m, Mapping) and m.get("unit") for m in metrics.values())
        body["metrics"] = metrics_json(metrics, {} if said_units else self.units(campaign))
        return self._post(path_of(campaign, "observations"), body, idempotency_key)

    def ingest(
        self, campaign: str, name: str, content: bytes, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Hand in a results file, as `matloop ingest` does.

        Args:
            campaign: The campaign.
            name: The file's name, as errors will have it.
            content: Its bytes.
            dry_run: Only check it.

        Raises:
            Refused: With `errors`, each with the row it is about; nothing was taken in.
            Unreachable: No answer in time.
        """
        ending = name[name.rfind(".") :].lower()
        files = {"file": (name, content, _RESULTS.get(ending, "text/csv"))}
        params = {"dry_run": "1"} if dry_run else {}
        path = path_of(campaign, "ingest")
        return cast(dict[str, Any], self._send("POST", path, files=files, params=params))

    def propose(self, campaign: str, n: int | None = None) -> dict[str, Any]:
        """Ask for n more trials than the server has ready; the job that makes them."""
        return self._post(path_of(campaign, "proposals"), {} if n is None else {"n": n})

    def job(self, campaign: str, job: str | int) -> dict[str, Any]:
        """What became of a job of `propose`."""
        return self._get(path_of(campaign, "jobs", str(job)))

    def approve(self, campaign: str, trial: int) -> dict[str, Any]:
        """Let a trial be leased, in a campaign where a person decides."""
        return self._post(path_of(campaign, "trials", str(trial), "approve"), {})

    def reject(self, campaign: str, trial: int, reason: str) -> dict[str, Any]:
        """Give a trial up before it costs anything."""
        return self._post(path_of(campaign, "trials", str(trial), "reject"), {"reason": reason})

    def hold(self, campaign: str, trial: int) -> dict[str, Any]:
        """Keep a trial from being leased, until `release`."""
        return self._post(path_of(campaign, "trials", str(trial), "hold"), {})

    def release(self, campaign: str, trial: int) -> dict[str, Any]:
        """End a `hold`."""
        return self._post(path_of(campaign, "trials", str(trial), "release"), {})

    def stop(self, campaign: str) -> dict[str, Any]:
        """Stop at once: nothing is leased any more, and heartbeats are told to cancel."""
        return self._post(path_of(campaign, "stop"), {})

    def resume(self, campaign: str) -> dict[str, Any]:
        """End a `stop`."""
        return self._post(path_of(campaign, "resume"), {})


def media_type(name: str) -> str:
    """The media type of a text by its file's name."""
    return _RESULTS.get(name[name.rfind(".") :].lower(), "text/plain")


def _of(lease: Lease, action: str) -> str:
    return path_of(lease.campaign, "trials", str(lease.trial), action)
