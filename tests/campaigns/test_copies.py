"""A copy that is made while others write, and brought back: on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from campaigns.campaign import Campaign
from campaigns.errors import MatloopError, UsageError
from campaigns.replaying import differences
from campaigns.service import tokens
from campaigns.store import Store, copies
from campaigns.store.models import CampaignRow
from tests.campaigns.doors import Direct, direct
from tests.campaigns.served import HOUSE, MATLOOP

METRICS = {"hardness": (5.0, 0.1), "cost": 2.0}


@pytest.fixture
def elsewhere(database: str, tmp_path: Path) -> Iterator[str]:
    """The URL of where no database of ours is, of the same kind."""
    if database.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'restored.db'}"
        return
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE DATABASE elsewhere")
        yield make_url(database).set(database="elsewhere").render_as_string(hide_password=False)
        connection.execute("DROP DATABASE elsewhere WITH (FORCE)")


def answered(door: Direct, n: int) -> None:
    for lease in door.lease(n):
        door.report(lease, METRICS, artifacts={"log.txt": "hot"})


def matloop(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MATLOOP, *arguments], cwd=cwd, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_copy_made_while_others_write_comes_back_whole(database, elsewhere, tmp_path) -> None:
    file = tmp_path / "copy.matloop"
    with direct(database, tmp_path) as make:
        door = make(60)
        answered(door, 5)
        with door.store.write() as session:
            key, _ = tokens.make(session, "robot", ("work",), door.toy.name)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set() and (leases := door.lease(1)):
                door.report(leases[0], METRICS)

        worker = threading.Thread(target=work)
        worker.start()
        told = matloop("backup", str(file), "--db", database, cwd=tmp_path)
        stop.set()
        worker.join()
        assert told.returncode == 0, told.stderr
        assert copies.restore(file, elsewhere) == [door.toy.name]
        store = Store(elsewhere, create=False)
        with store.read() as session:
            row = session.query(CampaignRow).one()
            replayed, differ = differences(session, row)
            assert tokens.check(session, key, store.now(session)) is not None
        assert differ == []
        assert sum(trial.status == "completed" for trial in replayed.trials.values()) >= 5
        store.close()
        again = Campaign.open(door.toy.name, elsewhere)  # and goes on: the next numbers are free
        again.ingest(_table(tmp_path, len(replayed.trials) - 1))
        again.close()


def _table(folder: Path, trial: int) -> Path:
    path = folder / "late.csv"
    path.write_text(f"trial,hardness (GPa),cost\n{trial},4.5,1\n")
    return path


def test_what_is_there_is_not_overwritten(database, elsewhere, tmp_path) -> None:
    file = tmp_path / "copy.matloop"
    with direct(database, tmp_path) as make:
        answered(make(2), 2)
        store = Store(database)
        copies.backup(store, file)
        with pytest.raises(UsageError, match="such a file already"):
            copies.backup(store, file)
        before = file.read_bytes()
        copies.restore(file, elsewhere)
        with pytest.raises(UsageError, match="there is a database already"):
            copies.restore(file, elsewhere)
        with pytest.raises(UsageError, match="no such copy"):
            copies.restore(tmp_path / "none", elsewhere)
        assert file.read_bytes() == before
        store.close()
    assert Campaign.names(elsewhere) == Campaign.names(database)


def test_what_is_no_copy_is_refused_and_changes_nothing(database, elsewhere, tmp_path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"these are my notes\n" * 200)
    with pytest.raises(MatloopError):
        copies.restore(wrong, elsewhere)
    with direct(database, tmp_path) as make:
        answered(make(1), 1)
        store = Store(database)
        copies.backup(store, tmp_path / "copy")
        store.close()
    whole = (tmp_path / "copy").read_bytes()
    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MatloopError):
        copies.restore(tmp_path / "torn", elsewhere)
    if elsewhere.startswith("postgresql"):  # somebody looked, which made empty tables
        assert Campaign.names(elsewhere) == []
    copies.restore(tmp_path / "copy", elsewhere)
