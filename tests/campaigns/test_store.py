"""The store keeps its rules whoever writes, and every failure is one clear error."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from campaigns.errors import MatloopError, UsageError
from campaigns.store import Store
from campaigns.store import store as store_module
from campaigns.store.models import (
    STATUSES,
    TRANSITIONS,
    CampaignRow,
    Event,
    IllegalTransition,
    Observation,
    Trial,
    utc_now,
)
from campaigns.store.store import record


def add_campaign(store, name="c"):
    with store.write() as session:
        row = CampaignRow(name=name, token="ab" * 16, spec_text="", spec={}, spec_hash="0" * 64)
        session.add(row)
        session.flush()
        record(session, row.id, "campaign_created", name=name)
    return row


def add_trial(store, campaign, index=0, **columns):
    with store.write() as session:
        trial = Trial(
            campaign_id=campaign.id, index=index, design={"x": 0.1}, provenance={}, **columns
        )
        session.add(trial)
    return trial


def add_observation(store, trial, mean=1.0, **columns):
    with store.write() as session:
        row = Observation(
            trial_id=trial.id, metric="m", mean=mean, unit="GPa", source="test", **columns
        )
        session.add(row)
    return row


@pytest.fixture
def store(database):
    store = Store(database)
    yield store
    store.close()


def test_one_writer_at_a_time(store, database):
    add_campaign(store, "a")
    other = Store(database, timeout=0.2)
    with store.write() as session:
        session.scalars(select(CampaignRow)).all()  # decides by what it read
        with pytest.raises(MatloopError, match="used"), other.write() as second:
            second.scalars(select(CampaignRow)).all()
    with other.write() as session:
        assert session.scalars(select(CampaignRow.name)).all() == ["a"]
    other.close()


@pytest.mark.parametrize("table", ["observation", "event"])
@pytest.mark.parametrize("verb", ["update", "delete", "replace", "truncate"])
def test_observations_and_events_are_never_changed_or_deleted(store, table, verb):
    trial = add_trial(store, add_campaign(store))
    add_observation(store, trial)
    statement = {
        "update": f"UPDATE {table} SET time = time",
        "delete": f"DELETE FROM {table}",
        "replace": f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        "truncate": f"TRUNCATE {table} CASCADE",
    }[verb]
    if (store.path is None) == (verb == "replace") and verb in ("replace", "truncate"):
        return  # a statement the other database has
    with pytest.raises(MatloopError, match="never changed or deleted"), store.write() as session:
        session.execute(text(statement))
    with store.read() as session:
        assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 1


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_a_status_moves_only_along_the_legal_transitions(before, after):
    trial = Trial(index=3, status=before, attempt=0)
    if after in TRANSITIONS[before]:
        trial.move(after)
        assert trial.status == after
    else:
        with pytest.raises(IllegalTransition, match=f"trial 3 is {before}"):
            trial.move(after)
        assert trial.status == before


def test_an_unknown_status_is_refused():
    with pytest.raises(IllegalTransition, match="no trial status"):
        Trial(index=0, status="done")


def test_a_change_and_its_event_are_written_together_or_not_at_all(store):
    campaign = add_campaign(store)
    trial = add_trial(store, campaign)

    def move_and_fail():
        with store.write() as session:
            session.get_one(Trial, trial.id).move("running")
            record(session, campaign.id, "trial_started", trial=0)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        move_and_fail()
    with store.read() as session:
        assert session.get_one(Trial, trial.id).status == "candidate"
        assert [e.kind for e in session.scalars(select(Event))] == ["campaign_created"]


def test_times_are_utc(store):
    campaign = add_campaign(store)
    local = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    trial = add_trial(store, campaign, created=local)
    with store.read() as session:
        stored = session.get_one(Trial, trial.id).created
    assert stored == local
    assert stored.utcoffset() == timedelta(0)
    with pytest.raises(MatloopError, match="without a zone"):
        add_trial(store, campaign, index=1, created=datetime(2026, 1, 1))
    assert utc_now().tzinfo is UTC


def test_floats_come_back_bit_for_bit(store):
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.pi]
    campaign = add_campaign(store)
    with store.write() as session:
        session.add(Trial(campaign_id=campaign.id, index=0, design={"x": numbers}, provenance={}))
    with store.read() as session:
        back = session.scalars(select(Trial)).one().design["x"]
    assert [float.hex(a) for a in back] == [float.hex(a) for a in numbers]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_no_nan_enters_json(store, number):
    campaign = add_campaign(store)
    with pytest.raises((MatloopError, ValueError)), store.write() as session:
        session.add(Trial(campaign_id=campaign.id, index=0, design={"x": number}, provenance={}))


def test_foreign_keys_and_checks_hold(store):
    trial = add_trial(store, add_campaign(store))
    with pytest.raises(MatloopError):
        add_observation(store, trial, sem=-1.0)
    with pytest.raises(MatloopError), store.write() as session:
        session.execute(text("UPDATE trial SET campaign_id = 99"))
    first = add_observation(store, trial)
    add_observation(store, trial, 2.0, supersedes_id=first.id)
    with pytest.raises(MatloopError):  # one observation is superseded once
        add_observation(store, trial, 3.0, supersedes_id=first.id)


def test_sqlite_is_set_up_for_crashes(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    with store.read() as session:
        pragmas = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000,
    }  # fmt: skip


# What goes wrong with a database: one clear error each


def fields(caught):
    error = caught.value
    assert all((error.what, error.where, error.why, error.unchanged, error.hint))
    return str(error)


def test_not_a_database(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, and no database at all\n" * 100)
    before = path.read_bytes()
    with pytest.raises(MatloopError) as caught:
        Store(f"sqlite:///{path}")
    assert "not a database" in fields(caught)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [200, 5000, 0.5])
def test_a_damaged_database(tmp_path, keep):
    path = tmp_path / "a.db"
    store = Store(f"sqlite:///{path}")
    campaign = add_campaign(store)
    for index in range(40):
        add_trial(store, campaign, index)
    whole = path.read_bytes()
    keep = int(len(whole) * keep) if keep < 1 else keep
    damaged = whole[:keep] + b"\x5a" * (len(whole) - keep)
    path.write_bytes(damaged)
    with pytest.raises(MatloopError) as caught:
        Store(f"sqlite:///{path}")
    assert "damaged" in fields(caught)
    assert path.read_bytes() == damaged


def test_a_locked_database(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    store = Store(url, timeout=0.05)
    campaign = add_campaign(store)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(MatloopError) as caught:
        add_trial(store, campaign)
    assert "another program is writing" in fields(caught)
    with store.read() as session:  # reading goes on
        assert session.scalar(text("SELECT count(*) FROM trial")) == 0
    other.execute("ROLLBACK")
    other.close()
    add_trial(store, campaign)


def test_a_full_disk_as_sqlite_sees_it(tmp_path, monkeypatch):
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    campaign = add_campaign(store)

    def fill():
        with store.write() as session:
            pages = session.scalar(text("PRAGMA page_count"))
            session.execute(text(f"PRAGMA max_page_count={pages + 1}"))
            for index in range(100):
                session.add(
                    Trial(
                        campaign_id=campaign.id, index=index, design={"x": "y" * 900}, provenance={}
                    )
                )
                session.flush()

    with pytest.raises(MatloopError) as caught:
        fill()
    assert "the disk is full" in fields(caught)
    with store.read() as session:
        assert session.scalar(text("SELECT count(*) FROM trial")) == 0
    add_trial(store, campaign)


def test_a_really_full_disk(small_disk, fill_disk):
    store = Store(f"sqlite:///{small_disk / 'a.db'}")
    campaign = add_campaign(store)
    add_trial(store, campaign)
    filler = fill_disk(small_disk)

    def fill():
        for index in range(1, 100):
            add_trial(store, campaign, index, failure="y" * 5000)

    with pytest.raises(MatloopError) as caught:
        fill()
    assert "the disk is full" in fields(caught)
    filler.unlink()
    with store.read() as session:
        kept = session.scalar(text("SELECT count(*) FROM trial"))
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    add_trial(store, campaign, kept)


def test_a_fresh_database_on_a_full_disk(small_disk, fill_disk):
    filler = fill_disk(small_disk)
    with pytest.raises(MatloopError) as caught:
        Store(f"sqlite:///{small_disk / 'a.db'}")
    assert "the disk is full" in fields(caught)
    filler.unlink()
    add_campaign(Store(f"sqlite:///{small_disk / 'a.db'}"))


def test_a_folder_that_may_not_be_written(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    store = Store(f"sqlite:///{folder / 'a.db'}")
    campaign = add_campaign(store)
    if os.getuid() == 0:  # root writes where it likes, but not on a disk mounted read-only
        mounted = subprocess.run(
            ["mount", "--bind", str(folder), str(folder)], capture_output=True
        ).returncode == 0 and subprocess.run(
            ["mount", "-o", "remount,ro,bind", str(folder)], capture_output=True
        ).returncode == 0  # fmt: skip
        if not mounted:
            pytest.skip("root without the right to mount cannot be refused")
    else:
        (folder / "a.db").chmod(0o444)
        folder.chmod(0o555)
    try:
        for attempt in (
            lambda: Store(f"sqlite:///{folder / 'a.db'}"),
            lambda: Store(f"sqlite:///{folder / 'new.db'}"),
            lambda: add_trial(store, campaign),
        ):
            with pytest.raises(MatloopError) as caught:
                attempt()
            fields(caught)
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        else:
            folder.chmod(0o755)
    assert not (folder / "new.db").exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(MatloopError) as caught:
        Store(f"sqlite:///{tmp_path / 'no' / 'a.db'}")
    assert "cannot be opened" in fields(caught)
    with pytest.raises(UsageError, match="no database"):
        Store(f"sqlite:///{tmp_path / 'a.db'}", create=False)
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("matloop.db", "not a database URL"),
        ("mysql://a:secret@b/c", "SQLite or PostgreSQL"),
        ("postgresql://a:secret@b:c/d", "port is not a number"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_urls_that_name_no_lasting_database(url, says):
    with pytest.raises(UsageError, match=says) as caught:
        Store(url)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_server_that_does_not_answer(monkeypatch):
    pytest.importorskip("psycopg")
    with pytest.raises(MatloopError) as caught:
        Store("postgresql://nobody:secret@127.0.0.1:9/none", timeout=2)
    assert "secret" not in fields(caught)


def test_postgres_without_its_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match="needs its driver"):
        Store("postgresql://u@h/d")


def test_the_default_url(monkeypatch):
    monkeypatch.delenv("MATLOOP_DB", raising=False)
    assert store_module.default_url() == "sqlite:///matloop.db"
    monkeypatch.setenv("MATLOOP_DB", "sqlite:////tmp/x.db")
    assert store_module.default_url() == "sqlite:////tmp/x.db"


def test_one_runner_per_campaign(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MATLOOP_RESULTS", str(tmp_path))
    campaign = add_campaign(store)
    with (
        store.runner_lock(campaign),
        pytest.raises(MatloopError, match="run by another matloop"),
        store.runner_lock(campaign),
    ):
        pass
    with store.runner_lock(campaign):
        pass


def test_the_lock_dies_with_its_process(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MATLOOP_RESULTS", str(tmp_path))
    campaign = add_campaign(store)
    code = (
        "import sys, time\nfrom campaigns.store import Store\n"
        "from campaigns.store.models import CampaignRow\n"
        f"store = Store({store.url!r})\n"
        "with store.read() as session:\n    row = session.get(CampaignRow, 1)\n"
        "with store.runner_lock(row):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(MatloopError) as caught, store.runner_lock(campaign):
            pass
        fields(caught)
    finally:
        child.kill()
        child.communicate()
    deadline = datetime.now() + timedelta(seconds=10)
    while True:  # a server needs a moment to see that its client is gone
        try:
            with store.runner_lock(campaign):
                return
        except MatloopError:
            assert datetime.now() < deadline


def test_dbapi_errors_never_leave_the_store(store):
    with pytest.raises(MatloopError) as caught, store.write() as session:
        session.execute(text("SELECT * FROM nothing_of_this_name"))
    assert isinstance(caught.value.__cause__, DBAPIError)
