"""SiLA 2: an instrument as a SiLA server, and the client that brings it a campaign's trials.

    server = instrument(measure, "Furnace 1")               # on the instrument's computer
    server.start_insecure("127.0.0.1", 50052)               # or start(...) with certificates

    with SilaClient("127.0.0.1", 50052, insecure=True) as furnace:      # anywhere
        work(Client(URL, key), "light-stiff", furnace, max_trials=10)

One observable command, `Measure` (measurement.sila.xml), runs for one lease: its progress goes with
the heartbeats, its execution errors fail the trial, and an instrument that cannot be reached any
more hands it back. A SiLA server of another maker needs only that feature.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from sila2.framework import DefinedExecutionError, Feature, SilaConnectionError, SilaError
from sila2.server import FeatureImplementationBase, SilaServer

from campaigns import __version__
from campaigns.adapters.base import Bench, wanted
from campaigns.client import Client
from campaigns.errors import UsageError
from campaigns.leases import Lease, metrics_json

if TYPE_CHECKING:
    from sila2.client import SilaClient

Measure = Callable[[Mapping[str, Any], Callable[[float], None]], Mapping[str, Any]]
"""What an instrument does: `measure(request, progress)` returns metrics as `Client.report` takes
them; `progress` is called with the share that is done."""

_POLL: Final = 0.1


class Infeasible(Exception):
    """Raised by `Measure` where this design can be made nowhere."""


def feature() -> Feature:
    """The feature `Measurement`."""
    text = resources.files("campaigns.adapters").joinpath("measurement.sila.xml").read_text("utf-8")
    return Feature(text)


class _Instrument(FeatureImplementationBase):
    def __init__(self, server: SilaServer, measure: Measure, known: Feature) -> None:
        super().__init__(server)
        self._measure, self._feature = measure, known

    def Measure(self, Request: str, *, metadata: Any, instance: Any) -> str:
        """The command, under the names of its definition."""
        instance.begin_execution()

        def progress(share: float) -> None:
            instance.progress = min(1.0, max(0.0, share))

        try:
            found = self._measure(json.loads(Request), progress)
        except Infeasible as error:
            node = self._feature.defined_execution_errors["Infeasible"]
            raise DefinedExecutionError(node, str(error)) from error
        return json.dumps(metrics_json(found, {}), allow_nan=False)


def instrument(measure: Measure, name: str) -> SilaServer:
    """A SiLA server for an instrument; start it with `start` or `start_insecure`.

    Args:
        measure: What it does.
        name: The server's, as SiLA browsers show it.
    """
    server = SilaServer(
        server_name=name,
        server_type="MatloopInstrument",
        server_version=".".join(__version__.split(".")[:2]),
        server_description="Measures what a matloop campaign proposes.",
        server_vendor_url="https://sila-standard.com",
    )
    known = feature()
    server.set_feature_implementation(known, _Instrument(server, measure, known))
    return server


def work(
    client: Client,
    campaign: str,
    instrument: SilaClient,
    *,
    max_trials: int | None = None,
    worker: str = "sila2",
    patience: float = 600.0,
) -> dict[str, int]:
    """Bring an instrument a campaign's trials, one after the other.

    Args:
        client: The server with the campaign.
        campaign: Its name.
        instrument: A SiLA client of a server with the feature `Measurement`.
        max_trials: End after so many; default: when the campaign has no more.
        worker: What its pages call the instrument.
        patience: Seconds to wait for a trial.

    Returns:
        How many were `completed`, `failed` and `handed_back`.

    Raises:
        UsageError: The SiLA server has no such feature.
        SilaConnectionError: It cannot be reached any more; the trial was handed back.
        MatloopError: The campaign has ended, or gave no trial in time, before `max_trials`.
    """
    if not hasattr(instrument, "Measurement"):
        raise UsageError(
            "the SiLA server has no feature Measurement",
            unchanged="the campaign",
            hint="campaigns/adapters/measurement.sila.xml defines it",
        )
    bench = Bench(client, campaign, worker, patience)
    counts = {"completed": 0, "failed": 0, "handed_back": 0}
    try:
        while max_trials is None or sum(counts.values()) < max_trials:
            (lease,) = bench.take(1)
            counts[_one(bench, lease, instrument)] += 1
    finally:
        bench.close()
    return counts


def _one(bench: Bench, lease: Lease, instrument: SilaClient) -> str:
    """Run the command for one lease; what became of it."""
    request = {
        key: getattr(lease, key)
        for key in ("trial", "name", "fidelity", "params", "structures", "units")
    }
    try:
        # The client makes its features when it connects.
        measurement: Any = instrument.Measurement  # type: ignore[attr-defined, unused-ignore]
        running = measurement.Measure(Request=json.dumps(request))
        while not running.done:
            if (why := bench.keeper.ended(lease.trial)) is not None:
                # SiLA has no way to stop a command: the instrument runs on, and nobody waits.
                bench.fail(lease.trial, why, lost=True)
                return "handed_back"
            bench.keeper.progress(lease.trial, running.progress or 0.0)
            time.sleep(_POLL)
        measured = json.loads(running.get_responses().Outcome)
    except SilaConnectionError as error:
        bench.fail(lease.trial, f"the instrument cannot be reached: {error}", lost=True)
        raise
    except SilaError as error:
        infeasible = isinstance(error, DefinedExecutionError)
        bench.client.fail(lease, _reason(error), "infeasible" if infeasible else "failed")
        bench.keeper.drop(lease.trial)
        return "failed"
    complete = set(lease.units) <= set(wanted(measured, lease.units))
    bench.report(lease.trial, measured)
    return "completed" if complete else "failed"


def _reason(error: SilaError) -> str:
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return text[:500] or type(error).__name__
