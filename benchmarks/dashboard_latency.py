"""How long pages wait for their answers while the engine refits: p50 and p95 of each address.

    python benchmarks/dashboard_latency.py                 # 200 requests of each, during refits
    python benchmarks/dashboard_latency.py --trials 500

A campaign of two objectives and three axes has its results; the engine is asked for proposals
again and again, so that it fits and searches all the while. Only requests that were begun and
answered while a job was running count. Every answer is asked for as a program would, without an
`ETag`. Between refits a result comes in, so that nothing is answered from what was kept for the
event before. Server, engine and client share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from service_server import Connection, Server, add, begin, database

RESULTS = Path(__file__).parent / "results" / "dashboard_latency.json"
BASE = "/v1/campaigns/load"
ADDRESSES = {
    "state": BASE, "events": f"{BASE}/events?last=40", "front": f"{BASE}/front",
    "curve": f"{BASE}/curve", "columns": f"{BASE}/candidates.columns", "model": f"{BASE}/model",
}  # fmt: skip


async def answer(connection: Connection, count: int) -> None:
    """Report results to so many trials."""
    for _ in range(count):
        _, told = await connection.ask("POST", f"{BASE}/leases", {"worker": "oven"})
        (lease,) = told["leases"]
        x, y = lease["params"]["x"], lease["params"]["y"]
        metrics = {
            "hardness": {"value": 1 - (x - 0.6) ** 2 - 0.2 * y, "unit": "GPa"},
            "cost": {"value": x + 2 * y, "sem": 0.1, "unit": "dimensionless"},
        }
        status, told = await connection.ask(
            "POST", f"{BASE}/trials/{lease['trial']}/result",
            {"token": lease["token"], "metrics": metrics},
        )  # fmt: skip
        assert status == 200, told


async def measure(port: int, key: str, requests: int) -> dict[str, Any]:
    asks, watches = Connection(port, key), Connection(port, key)
    waits: dict[str, list[float]] = {name: [] for name in ADDRESSES}
    refits = 0
    while min(map(len, waits.values())) < requests:
        await answer(asks, 1)
        _, job = await watches.ask("POST", f"{BASE}/proposals", {"n": 4})
        status = "queued"
        while status in ("queued", "running"):
            found = {}
            for name, path in ADDRESSES.items():
                begun = time.perf_counter()
                code, _ = await asks.ask("GET", path)
                found[name] = time.perf_counter() - begun
                assert code == 200
            before = status
            status = (await watches.ask("GET", f"{BASE}/jobs/{job['job']}"))[1]["status"]
            if before == status == "running":
                for name, took in found.items():
                    waits[name].append(took)
            await asyncio.sleep(0.02)
        assert status == "done", status
        refits += 1
        counted = min(map(len, waits.values()))
        print(f"refit {refits}: {counted} requests of each", flush=True)
    told: dict[str, Any] = {"refits": refits}
    for name, all_waits in waits.items():
        cuts = statistics.quantiles(all_waits, n=100)
        told[name] = {
            "requests": len(all_waits), "p50_ms": round(1e3 * cuts[49], 1),
            "p95_ms": round(1e3 * cuts[94], 1), "max_ms": round(1e3 * max(all_waits), 1),
        }  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--trials", type=int, default=200, help="that have results")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--dry", action="store_true", help="keep no results")
    given = parser.parse_args()
    with database(given.database) as url, tempfile.TemporaryDirectory() as folder:
        key = begin(url)
        add(url, given.trials + 40)
        server = Server(url, Path(folder) / "log")
        server.start()
        try:

            async def fill() -> None:
                await answer(Connection(server.port, key), given.trials)

            asyncio.run(fill())
            told = asyncio.run(measure(server.port, key, given.requests))
        finally:
            server.stop()
            print((Path(folder) / "log").read_text()[-500:])
    told |= {"trials": given.trials, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(told, indent=1))
    if not given.dry:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(results | {given.database: told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
