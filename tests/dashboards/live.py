"""A service with its engine, and who answers its trials, for tests of what happens by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from campaigns import Campaign
from campaigns.spec import Spec
from tests.dashboards.browser import Server


class Live(Server):
    """`matloop serve` with its engine."""

    def until(self, path: str, seen: Callable[[Any], Any], seconds: float = 400.0) -> Any:
        """The answer of an address, when it is as wanted."""
        ends = time.monotonic() + seconds
        while not seen(told := self.get(path)):
            assert time.monotonic() < ends, told
            time.sleep(0.2)
        return told

    def answer(self, campaign: str, by: Callable[[Any], Mapping[str, float]]) -> int:
        """Try one trial, as a laboratory would; its number."""
        base = f"/v1/campaigns/{campaign}"
        ends = time.monotonic() + 400
        while not (leases := self.post(f"{base}/leases", {"worker": "oven"})["leases"]):
            assert time.monotonic() < ends, "nothing is proposed"
            time.sleep(0.2)
        (lease,) = leases
        units = self.get(base)["metrics"]
        metrics = {m: {"value": v, "unit": units[m]} for m, v in by(lease).items()}
        body = {"token": lease["token"], "metrics": metrics}
        self.post(f"{base}/trials/{lease['trial']}/result", body)
        return int(lease["trial"])

    @contextmanager
    def worker(self, campaign: str, spec: Path, *more: str) -> Iterator[None]:
        """`matloop worker` beside it."""
        command = Path(sys.executable).with_name("matloop")
        process = subprocess.Popen(
            [str(command), "worker", "--server", self.address, "--campaign", campaign,
             "--spec", str(spec), *more],
            env=os.environ | {"MATLOOP_KEY": self.key}, cwd=spec.parent,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def live(folder: Path, *specs: Mapping[str, Any] | Path) -> Iterator[Live]:
    """Campaigns on a service with its engine."""
    url = f"sqlite:///{folder / 'matloop.db'}"
    for spec in specs:
        given = spec if isinstance(spec, Path) else Spec.model_validate(spec)
        Campaign.create(given, url).close()
    server = Live(url, engine=True)
    try:
        yield server
    finally:
        server.api.close()
        server.stop()
