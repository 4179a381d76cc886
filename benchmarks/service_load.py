"""Round trips of lease and report a second, and how long a request waits, while the engine fits.

    python benchmarks/service_load.py                      # SQLite and PostgreSQL, 30 s each
    python benchmarks/service_load.py --database sqlite --seconds 10 --workers 50
    python benchmarks/service_load.py --database postgresql --servers 2 --workers 100

Fifty workers, each with connections of its own, lease a trial and report it at once, as fast as
they are answered. The engine is asked for proposals all the time, so that it fits a surrogate to
all there is without a pause. Server, engine, database and clients share the machine's cores. With
several servers, a worker leases from one and reports to the next. In the end the database is asked
whether every trial was given out once and has the one result that was reported.
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

from service_server import Connection, Server, add, another_key, begin, database
from sqlalchemy import select

from campaigns.store import Store
from campaigns.store.models import Event

RESULTS = Path(__file__).parent / "results" / "service_load.json"


async def worker(
    number: int, ports: list[int], key: str, until: float, waits: dict[str, list[float]]
) -> int:
    """Lease and report until the time is over; how many round trips."""
    connection = Connection(ports[number % len(ports)], key)
    other = Connection(ports[(number + 1) % len(ports)], key) if len(ports) > 1 else connection
    done = 0
    while time.perf_counter() < until:
        begun = time.perf_counter()
        status, answer = await connection.ask(
            "POST", "/v1/campaigns/load/leases", {"worker": f"worker {number}"}
        )
        waits["lease"].append(time.perf_counter() - begun)
        assert status == 200, answer
        if not answer["leases"]:
            await asyncio.sleep(0.5)
            continue
        (lease,) = answer["leases"]
        x, y = lease["params"]["x"], lease["params"]["y"]
        metrics = {
            "hardness": {"value": 1e3 * (1 - (x - 0.6) ** 2), "unit": "MPa"},
            "cost": {"value": x + 2 * y, "sem": 0.1, "unit": "dimensionless"},
        }
        begun = time.perf_counter()
        status, answer = await other.ask(
            "POST", f"/v1/campaigns/load/trials/{lease['trial']}/result",
            {"token": lease["token"], "metrics": metrics},
        )  # fmt: skip
        waits["report"].append(time.perf_counter() - begun)
        assert status == 200, answer
        done += 1
    connection.close()
    other.close()
    return done


async def keep_busy(port: int, key: str, until: float, jobs: list[str]) -> None:
    """Ask for proposals whenever none is being made."""
    connection = Connection(port, key)
    while time.perf_counter() < until:
        _, job = await connection.ask("POST", "/v1/campaigns/load/proposals", {"n": 4})
        while time.perf_counter() < until:
            _, told = await connection.ask("GET", f"/v1/campaigns/load/jobs/{job['job']}")
            if told["status"] in ("done", "failed"):
                jobs.append(told["status"])
                break
            await asyncio.sleep(0.1)
    connection.close()


async def load(ports: list[int], keys: list[str], workers: int, seconds: float) -> dict[str, Any]:
    waits: dict[str, list[float]] = {"lease": [], "report": []}
    jobs: list[str] = []
    begun = time.perf_counter()
    until = begun + seconds
    done, *_ = await asyncio.gather(
        asyncio.gather(
            *(worker(n, ports, keys[n % len(keys)], until, waits) for n in range(workers))
        ),
        keep_busy(ports[0], keys[0], until, jobs),
    )
    took = time.perf_counter() - begun
    both = sorted(waits["lease"] + waits["report"])
    told: dict[str, Any] = {
        "round_trips": sum(done), "per_second": round(sum(done) / took, 1), "proposals": len(jobs),
    }  # fmt: skip
    for name, found in (("all", both), *((k, sorted(v)) for k, v in waits.items())):
        cuts = statistics.quantiles(found, n=100)
        told[name] = {
            "p50_ms": round(1e3 * cuts[49], 1), "p99_ms": round(1e3 * cuts[98], 1),
            "max_ms": round(1e3 * found[-1], 1),
        }  # fmt: skip
    return told


def judge(url: str, reported: int) -> None:
    """Whether what was reported is there, once.

    Raises:
        SystemExit: It is not.
    """
    store = Store(url)
    with store.read() as session:
        events = session.execute(
            select(Event.kind, Event.payload).where(
                Event.kind.in_(("trial_started", "trial_completed"))
            )
        ).all()
    store.close()
    given = [told["trial"] for kind, told in events if kind == "trial_started"]
    ended = [told["trial"] for kind, told in events if kind == "trial_completed"]
    if len(set(given)) < len(given) or len(set(ended)) < len(ended) or len(ended) != reported:
        raise SystemExit(
            f"{reported} reported: {len(ended)} ends of {len(set(ended))} trials, "
            f"{len(given)} leases of {len(set(given))}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--servers", type=int, default=1, help="on one database")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=15.0, help="until the engine has imported")
    parser.add_argument("--dry", action="store_true", help="keep no results")
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for kind in given.database or ["sqlite", "postgresql"]:
        with database(kind) as url, tempfile.TemporaryDirectory() as folder:
            keys = [begin(url), *(another_key(url) for _ in range(3))]
            add(url, int(300 * (given.seconds + given.warm_up)))
            servers = [Server(url, Path(folder) / f"log-{k}") for k in range(given.servers)]
            try:
                for server in servers:
                    server.start()
                ports = [server.port for server in servers]
                first = asyncio.run(load(ports, keys, given.workers, given.warm_up))
                told = asyncio.run(load(ports, keys, given.workers, given.seconds))
                judge(url, first["round_trips"] + told["round_trips"])
            finally:
                for server in servers:
                    server.stop()
                    print(server.log.read_text()[-500:])
        told |= {
            "servers": given.servers,
            "workers": given.workers,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        }
        print(kind, json.dumps(told))
        results[kind if given.servers == 1 else f"{kind}, {given.servers} servers"] = told
    if not given.dry:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
