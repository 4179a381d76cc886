"""A client of `matloop serve`: what a robot, a worker or a notebook needs, and no torch.

    from campaigns.client import Client

    with Client("http://127.0.0.1:8000", key="mlk_...") as lab:
        for lease in lab.lease("light-stiff", n=2, worker="furnace-1"):
            lab.report(lease, {"density": 3.21})

Every change carries an idempotency key that is made once and kept while the request is tried again,
so an answer that was lost on its way back changes nothing twice.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, cast
from uuid import uuid4

import httpx

from campaigns._version import __version__
from campaigns.errors import MatloopError, UsageError
from campaigns.leases import Heartbeat, Lease, Metrics, metrics_json

FailKind = Literal["failed", "infeasible", "abandoned", "lost"]
"""How a trial ends without a result. `lost` (wall time, preemption, a node that died) makes it a
candidate again; the others are about the design."""

AGAIN: Final = frozenset({429, 502, 503, 504})
"""The statuses after which a request is made again: the server, or what is before it, is busy or
about to come back."""

_LONGEST_PAUSE: Final = 30.0
_TIMEOUT: Final = 30.0
_RESULTS: Final = {".json": "application/json", ".cif": "chemical/x-cif", ".zip": "application/zip"}


class Unreachable(MatloopError):
    """The server did not answer within the client's patience.

    It may have done what was asked: the same call with the same `idempotency_key` is safe.
    """


class Refused(MatloopError):
    """The server said no; `status` is HTTP's.

    Attributes:
        status: 409 for a conflict, 422 for input that is wrong, and so on.
        problem: The server's answer, RFC 9457.
        errors: Each thing that is wrong with the input, with `where` and `what`.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], request: str) -> None:
        super().__init__(
            str(problem.get("title") or f"the server answered with status {status}"),
            where=_text(problem.get("instance")) or request,
            why=_text(problem.get("detail")),
            unchanged=_text(problem.get("unchanged")),
            hint=_text(problem.get("hint")) or _HINTS.get(status),
        )
        self.status, self.problem = status, dict(problem)
        found = problem.get("errors")
        self.errors: list[dict[str, Any]] = [e for e in found or () if isinstance(e, dict)]
        # What is wrong with this use of it, and what is the server's or the campaign's state.
        self.exit_status = 2 if status in (400, 401, 403, 404, 405, 413, 415, 422) else 1

    def __str__(self) -> str:
        more = [f"  {e.get('where')}: {e.get('what')}" for e in self.errors[:50]]
        return "\n".join([super().__str__(), *more])

    def only_ran_out(self, token: int) -> bool:
        """Of a heartbeat: whether the lease ran out, but no other was given: a report counts."""
        told = (self.problem.get("trial_status"), self.problem.get("newest"))
        return self.status == 409 and told == ("candidate", token)

    def as_dict(self) -> dict[str, Any]:
        """The error with the server's list of what is wrong."""
        return super().as_dict() | {"status": self.status, "problems": self.errors}


_HINTS: Final = {
    401: "give a key: --key, or MATLOOP_KEY in the environment",
    403: "ask the campaign's owner for a key with this scope: `matloop token create`",
}


class Client:
    """A connection to a server; use it as a context manager, or call `close`.

    Args:
        url: Where the server is, as `http://127.0.0.1:8000`.
        key: The token; without one, only `health` is answered.
        patience: Seconds for which a request is made again while the server does not answer, or
            says that it is busy.
        timeout: Seconds that one attempt may take.
        transport: In place of the network, for an application in the same process.

    Raises:
        UsageError: The address is none.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience: float = 120.0,
        timeout: float = _TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UsageError(f"{url!r} is no address", why=str(error)) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"{url!r} is no address of a server", hint="as http://127.0.0.1:8000")
        self.url = str(parsed).rstrip("/")
        self.patience = patience
        self._units: dict[str, dict[str, str]] = {}
        headers = {"User-Agent": f"matloop/{__version__}", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, transport=transport
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

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
        told = self._post(_path(campaign, "leases"), body, idempotency_key)
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
        return self._post(_path(campaign, "observations"), body, idempotency_key)

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
        path = _path(campaign, "ingest")
        return cast(dict[str, Any], self._send("POST", path, files=files, params=params))

    def propose(self, campaign: str, n: int | None = None) -> dict[str, Any]:
        """Ask for n more trials than the server has ready; the job that makes them."""
        return self._post(_path(campaign, "proposals"), {} if n is None else {"n": n})

    def job(self, campaign: str, job: str | int) -> dict[str, Any]:
        """What became of a job of `propose`."""
        return self._get(_path(campaign, "jobs", str(job)))

    def approve(self, campaign: str, trial: int) -> dict[str, Any]:
        """Let a trial be leased, in a campaign where a person decides."""
        return self._post(_path(campaign, "trials", str(trial), "approve"), {})

    def reject(self, campaign: str, trial: int, reason: str) -> dict[str, Any]:
        """Give a trial up before it costs anything."""
        return self._post(_path(campaign, "trials", str(trial), "reject"), {"reason": reason})

    def hold(self, campaign: str, trial: int) -> dict[str, Any]:
        """Keep a trial from being leased, until `release`."""
        return self._post(_path(campaign, "trials", str(trial), "hold"), {})

    def release(self, campaign: str, trial: int) -> dict[str, Any]:
        """End a `hold`."""
        return self._post(_path(campaign, "trials", str(trial), "release"), {})

    def stop(self, campaign: str) -> dict[str, Any]:
        """Stop at once: nothing is leased any more, and heartbeats are told to cancel."""
        return self._post(_path(campaign, "stop"), {})

    def resume(self, campaign: str) -> dict[str, Any]:
        """End a `stop`."""
        return self._post(_path(campaign, "resume"), {})

    # What anybody looks at

    def health(self) -> dict[str, Any]:
        """Whether the server is there, and its version."""
        return self._get("/v1/health")

    def campaigns(self) -> list[dict[str, Any]]:
        """The server's campaigns."""
        return _items(self._get("/v1/campaigns"), "campaigns")

    def create(self, spec: str) -> dict[str, Any]:
        """Begin a campaign.

        Args:
            spec: The text of its spec, YAML.

        Raises:
            Refused: With the lines that are wrong.
        """
        return self._post("/v1/campaigns", {"spec": spec})

    def status(self, campaign: str) -> dict[str, Any]:
        """How a campaign stands."""
        return self._get(_path(campaign))

    def spec(self, campaign: str) -> str:
        """A campaign's spec, as YAML."""
        return self._text(_path(campaign, "spec"))

    def units(self, campaign: str) -> dict[str, str]:
        """The campaign's metrics and their units; asked once."""
        if campaign not in self._units:
            self._units[campaign] = dict(self.status(campaign)["metrics"])
        return self._units[campaign]

    def trials(self, campaign: str, status: str | None = None) -> Iterator[dict[str, Any]]:
        """A campaign's trials in the order of their numbers, page by page.

        Args:
            campaign: Its name.
            status: Only those with this status.
        """
        after: int | None = None
        while True:
            asked = {"status": status, "after": after}
            params = {k: v for k, v in asked.items() if v is not None}
            page = _items(self._get(_path(campaign, "trials"), params), "trials")
            yield from page
            if not page or page[-1]["trial"] == after:
                return
            after = page[-1]["trial"]

    def trial(self, campaign: str, trial: int) -> dict[str, Any]:
        """All that is known of a trial."""
        return self._get(_path(campaign, "trials", str(trial)))

    def observations(self, campaign: str, after: int | None = None) -> list[dict[str, Any]]:
        """What was measured, after the observation of this number."""
        params = {} if after is None else {"after": after}
        return _items(self._get(_path(campaign, "observations"), params), "observations")

    def events(
        self, campaign: str, after: int | None = None, wait: float = 0.0
    ) -> list[dict[str, Any]]:
        """What happened after the event of this number.

        Args:
            campaign: Its name.
            after: The last event that is known already.
            wait: Seconds to wait for one where there is none yet.
        """
        params: dict[str, Any] = {} if after is None else {"after": after}
        if wait:
            params["wait"] = wait
        found = self._get(_path(campaign, "events"), params, timeout=_TIMEOUT + wait)
        return _items(found, "events")

    # One request

    def _get(
        self, path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        more = {} if timeout is None else {"timeout": timeout}
        return self._send("GET", path, params=params or {}, **more)

    def _post(
        self, path: str, body: Mapping[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        sent = self._send("POST", path, json=dict(body), idempotency_key=idempotency_key)
        return cast(dict[str, Any], sent)

    def _send(self, method: str, path: str, **request: Any) -> Any:
        answer = self._answer(method, path, **request)
        try:
            return answer.json()
        except ValueError as error:
            raise MatloopError(
                "the answer is not JSON: is this a matloop server?",
                where=f"{method} {self.url}{path}",
                why=f"it is {answer.headers.get('content-type', 'of no type')}",
            ) from error

    def _text(self, path: str) -> str:
        return self._answer("GET", path, headers={"Accept": "*/*"}).text

    def _answer(
        self, method: str, path: str, *, idempotency_key: str | None = None, **request: Any
    ) -> httpx.Response:
        """Make a request, again and again while that may help.

        Raises:
            Refused: The server said no.
            Unreachable: It said nothing, or that it is busy, for as long as `patience`.
        """
        if method == "POST":
            request["headers"] = {"Idempotency-Key": idempotency_key or uuid4().hex}
        where = f"{method} {self.url}{path}"
        for pause in pauses(self.patience):
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}".rstrip(": ")
                if not pause():
                    raise _unreachable(where, why) from error
                continue
            if answer.status_code in AGAIN:
                if not pause(_seconds(answer.headers.get("retry-after"))):
                    told = _problem(answer)
                    title = _text(told.get("title")) or _text(told.get("detail")) or "no reason"
                    raise _unreachable(where, f"status {answer.status_code}: {title}")
                continue
            if answer.is_success:
                return answer
            raise Refused(answer.status_code, _problem(answer), where)
        raise AssertionError  # `pauses` has no end


def pauses(patience: float) -> Iterator[Callable[..., bool]]:
    """Attempts, each with a function that pauses before the next one.

    The pauses double and are drawn at random (all clients of a server that comes back would come
    back together), within what is left of the patience.

    Yields:
        `pause(at_least=0) -> bool`: it waits, and tells whether another attempt is due.
    """
    deadline = time.monotonic() + patience
    span = 0.25

    def pause(at_least: float = 0.0) -> bool:
        wait = max(at_least, random.uniform(span / 2, span))
        left = deadline - time.monotonic()
        if left <= 0 or at_least > left:
            return False
        time.sleep(min(wait, left))
        return True

    while True:
        yield pause
        span = min(2 * span, _LONGEST_PAUSE)


def media_type(name: str) -> str:
    """The media type of a text by its file's name."""
    return _RESULTS.get(name[name.rfind(".") :].lower(), "text/plain")


def _path(campaign: str, *parts: str) -> str:
    # A name may hold nothing that is special in a path; one that does must not lead elsewhere.
    from urllib.parse import quote

    return "/".join(["/v1/campaigns", *(quote(part, safe="") for part in (campaign, *parts))])


def _of(lease: Lease, action: str) -> str:
    return _path(lease.campaign, "trials", str(lease.trial), action)


def _items(told: Any, name: str) -> list[dict[str, Any]]:
    return list(told[name] if isinstance(told, Mapping) else told)


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if isinstance(problem, Mapping):
        return problem
    return {"detail": " ".join(answer.text.split())[:300] or None}


def _seconds(text: str | None) -> float:
    """What `Retry-After` says in seconds; 0 where it says nothing that can be used."""
    try:
        seconds = float(text or 0.0)
    except ValueError:  # a date, which no server of ours sends
        return 0.0
    return min(seconds, 3600.0) if math.isfinite(seconds) and seconds > 0 else 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _unreachable(where: str, why: str) -> Unreachable:
    return Unreachable(
        "the server does not answer",
        where=where,
        why=why,
        unchanged="whatever the server had",
        hint="is `matloop serve` running there? the same command can be given again",
    )
