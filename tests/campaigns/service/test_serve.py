"""The real command, its engine, a worker over HTTP: from a spec to a finished campaign."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import pytest

from campaigns.store import Store

SPEC = """
campaign: real
space:
  x: {range: [0, 1]}
  t: {range: [900, 1500], unit: K}
objectives:
  hardness: {goal: maximize, unit: GPa}
evaluate: {with: lab}
budget: {trials: 7, batch: 2}
"""

MATLOOP = [sys.executable, "-c", "from campaigns.cli import main; raise SystemExit(main())"]


class Served:
    """`matloop serve` over a folder; its first key."""

    def __init__(self, folder, port=0):
        self.folder, self.log = folder, folder / "log"
        with self.log.open("ab") as log:
            at = log.tell()
            self.process = subprocess.Popen(
                [*MATLOOP, "serve", "--port", str(port), "--spec", "real.yaml"],
                cwd=folder, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.getcwd()},
            )  # fmt: skip
        self.port = int(self.told(r"at http://127.0.0.1:(\d+)", at))

    def told(self, pattern, at=0):
        for _ in range(1200):
            if found := re.search(pattern, self.log.read_bytes()[at:].decode()):
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.mark.slow
def test_a_campaign_from_spec_to_end(tmp_path):
    (tmp_path / "real.yaml").write_text(SPEC)
    served = Served(tmp_path)
    try:
        key = served.told(r"shown only now: (mlk_\S+)")
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{served.port}",
            headers={"Authorization": f"Bearer {key}"}, timeout=60,
        )  # fmt: skip
        assert httpx.get(f"http://127.0.0.1:{served.port}/v1/campaigns").status_code == 401
        page = client.get(f"/login?key={key}", follow_redirects=False)
        assert page.status_code == 303
        done, killed, waits = 0, False, []
        until = time.monotonic() + 500
        while done < 7 and time.monotonic() < until:
            begun = time.monotonic()
            leases = client.post("/v1/campaigns/real/leases", json={"worker": "w"}).json()["leases"]
            waits.append(time.monotonic() - begun)
            if not leases:
                time.sleep(0.5)
                continue
            (lease,) = leases
            if done == 4 and not killed:
                # a power cut while a worker has a trial
                killed = True
                served.end(signal.SIGKILL)
                served = Served(tmp_path, served.port)
            metrics = {"hardness": {"value": 1e3 * lease["params"]["x"], "unit": "MPa"}}
            answer = client.post(
                f"/v1/campaigns/real/trials/{lease['trial']}/result",
                json={"token": lease["token"], "metrics": metrics},
            )
            assert answer.status_code == 200, answer.text
            done += 1
        status = client.get("/v1/campaigns/real").json()
        assert status["counts"]["completed"] == 7
        assert status["engine"]["seen"]
        methods = {
            t["provenance"]["method"]
            for t in client.get("/v1/campaigns/real/trials").json()["trials"]
        }
        assert len(methods) > 1, "no surrogate proposed anything"
        with client.stream("GET", "/v1/campaigns/real/events/stream") as stream:
            lines = stream.iter_lines()
            data = next(line for line in lines if line.startswith("data: "))
            assert json.loads(data[6:])["rev"] > 0
        assert served.end(signal.SIGTERM) == 0
    finally:
        if served.process.poll() is None:
            served.end(signal.SIGKILL)
    told = subprocess.run(
        [*MATLOOP, "replay", "--json"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    (replayed,) = json.loads(told.stdout)["data"]["campaigns"]
    assert (replayed["trials"], replayed["differences"]) == (7, [])
    # neither engine nor reader outlives its server
    store = Store(f"sqlite:///{tmp_path / 'matloop.db'}")
    store.close()
    time.sleep(1.0)
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in left
