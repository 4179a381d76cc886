"""Several servers on one PostgreSQL database are one service."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from campaigns.client import Refused
from campaigns.leases import Lease
from tests.campaigns.conftest import emptied
from tests.campaigns.served import Served

WORKERS, TRIALS = 8, 48


@pytest.mark.slow
def test_trials_leased_from_one_server_are_answered_to_another(
    postgres: str, tmp_path: Path
) -> None:
    emptied(postgres)
    servers = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        server = Served(tmp_path / name)
        server.db = postgres
        server.key = servers[0].key if servers else ""  # it is given once
        servers.append(server.begin())
    toy = servers[0].toy(TRIALS)
    begun = threading.Barrier(WORKERS)

    def work(number: int) -> list[Lease]:
        mine = servers[number % 2]
        answered = []
        with mine.client() as here, servers[(number + 1) % 2].client() as there:
            begun.wait()
            while leases := here.lease(toy.name, worker=f"worker {number}"):
                (lease,) = leases
                there.heartbeat(lease)
                there.report(lease, {"hardness": float(lease.trial), "cost": 1.0})
                answered.append(lease)
        return answered

    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            done = [lease for found in pool.map(work, range(WORKERS)) for lease in found]
        assert sorted(lease.trial for lease in done) == list(range(TRIALS))
        trials = toy.trials()
        assert {t["status"] for t in trials} == {"completed"}
        assert [t["observations"]["hardness"]["mean"] for t in trials] == list(range(TRIALS))
        # what one was told, the other knows: the stop, and a report that comes twice
        with servers[0].client() as here, servers[1].client() as there:
            here.stop(toy.name)
            assert there.status(toy.name)["stopped"]
            with pytest.raises(Refused):
                there.report(done[0], {"hardness": -1.0, "cost": 1.0})
    finally:
        for server in servers:
            server.end()
