"""A SiLA server and a SiLA client over gRPC, on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.campaigns.served import LAB, until

pytest.importorskip("sila2", reason="SILA 2 NOT TESTED: pip install '.[adapters]'")

from sila2.client import SilaClient

from campaigns.adapters.sila2 import Infeasible, Measure, instrument, work


@contextmanager
def sila(measure: Measure) -> Iterator[SilaClient]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = instrument(measure, "Furnace")
    server.start_insecure("127.0.0.1", port, enable_discovery=False)
    try:
        with SilaClient("127.0.0.1", port, insecure=True) as client:
            yield client
    finally:
        server.stop()


def test_an_instrument_works_a_campaign_off(served) -> None:
    toy = served.toy(3, LAB)

    def measure(request: Mapping[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
        progress(0.5)
        if request["trial"] == 1:
            raise Infeasible("it would melt the crucible")
        if request["trial"] == 2:
            raise RuntimeError("the door is open")
        return {"hardness": (request["params"]["x"], 0.1), "cost": {"value": 2.0}}

    with sila(measure) as furnace, served.client() as client:
        counts = work(client, toy.name, furnace, max_trials=3, patience=5.0)
    assert counts == {"completed": 1, "failed": 2, "handed_back": 0}
    assert toy.statuses() == ["completed", "infeasible", "failed"]
    done, melted, opened = toy.trials()
    assert done["observations"]["hardness"]["mean"] == done["design"]["x"]
    assert done["observations"]["hardness"]["sem"] == 0.1
    assert "crucible" in melted["failure"]
    assert "door is open" in opened["failure"]


def test_progress_is_seen_and_a_stop_gives_the_trial_back(served) -> None:
    toy = served.toy(1, LAB, ttl="1.5 s")
    go = threading.Event()

    def measure(request: Mapping[str, Any], progress: Callable[[float], None]) -> dict[str, Any]:
        progress(0.25)
        go.wait(30)
        return {"hardness": 1.0, "cost": 1.0}

    with sila(measure) as furnace, served.client() as client:

        def stop() -> None:
            with served.client() as other:
                until(lambda: (other.trial(toy.name, 0)["lease"] or {}).get("progress") == 0.25)
                other.stop(toy.name)

        threading.Thread(target=stop).start()
        assert work(client, toy.name, furnace, max_trials=1)["handed_back"] == 1
        go.set()
    assert toy.statuses() == ["candidate"]
