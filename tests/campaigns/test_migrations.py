"""The schema from day one: what the migrations make is what the models say, and old files
upgrade."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select

from campaigns.errors import MatloopError
from campaigns.store import Store
from campaigns.store import store as store_module
from campaigns.store.migrate import SCRIPTS, VERSION_TABLE, migrate
from campaigns.store.models import Base, CampaignRow, Event, Observation, Trial

FIXTURES = Path(__file__).parent / "fixtures"


def differences(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        return compare_metadata(context, Base.metadata)


def test_empty_to_head_is_what_the_models_say(database):
    store = Store(database)
    assert differences(store._engine) == []
    store.close()


def test_indices_and_checks_of_head_are_those_of_the_models(tmp_path):
    migrated = Store(f"sqlite:///{tmp_path / 'migrated.db'}")
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    Base.metadata.create_all(made)
    ours, theirs = inspect(migrated._engine), inspect(made)

    def shape(found, table):
        return (
            sorted(map(str, found.get_check_constraints(table))),
            sorted(map(str, found.get_unique_constraints(table))),
            sorted(map(str, found.get_foreign_keys(table))),
            sorted(map(str, found.get_indexes(table))),
        )

    for table in Base.metadata.tables:
        assert shape(ours, table) == shape(theirs, table), table
    made.dispose()


def test_opening_twice_changes_nothing(tmp_path):
    path = tmp_path / "a.db"
    Store(f"sqlite:///{path}").close()
    before = path.read_bytes()
    Store(f"sqlite:///{path}").close()
    assert path.read_bytes() == before


def test_a_stored_database_of_revision_1_upgrades_with_its_data(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((FIXTURES / "revision_0001.sql").read_text())
    connection.close()

    store = Store(f"sqlite:///{path}")
    assert differences(store._engine) == []
    with store.read() as session:
        campaign = session.scalars(select(CampaignRow)).one()
        trials = session.scalars(select(Trial).order_by(Trial.index)).all()
        observed = session.scalars(select(Observation).order_by(Observation.id)).all()
        events = session.scalars(select(Event)).all()
    assert campaign.name == "old"
    assert [t.status for t in trials] == ["completed", "failed", "candidate"]
    assert trials[0].design == {"x": 0.1, "y": "air"}
    assert trials[1].failure == "it melted"
    assert [o.mean for o in observed] == [1.5, 1.25]
    assert observed[1].supersedes_id == observed[0].id
    assert [e.kind for e in events] == ["campaign_created", "trial_completed"]
    assert events[0].time.tzinfo is not None


def with_a_later_revision(tmp_path):
    scripts = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    head = max(p.stem.split("_")[0] for p in (scripts / "versions").glob("*.py"))
    (scripts / "versions" / "9999_later.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision = '9999'\ndown_revision = '{head}'\n"
        "def upgrade():\n"
        "    op.create_table('later', sa.Column('id', sa.Integer, primary_key=True))\n"
        "    op.add_column('trial', sa.Column('note', sa.Text))\n"
    )
    return scripts


def test_an_older_database_is_upgraded_and_a_newer_one_refused(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Store(url).close()
    scripts = with_a_later_revision(tmp_path)
    monkeypatch.setattr(
        store_module, "migrate", lambda connection, where: migrate(connection, where, scripts)
    )
    later = Store(url)
    assert "later" in inspect(later._engine).get_table_names()
    monkeypatch.undo()

    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(MatloopError, match="newer matloop") as caught:
        Store(url)
    assert "9999" in str(caught.value)
    assert (tmp_path / "a.db").read_bytes() == before


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Store(url).close()
    scripts = with_a_later_revision(tmp_path)
    with (scripts / "versions" / "9999_later.py").open("a") as file:
        file.write("    raise RuntimeError('killed')\n")
    monkeypatch.setattr(
        store_module, "migrate", lambda connection, where: migrate(connection, where, scripts)
    )
    with pytest.raises(RuntimeError, match="killed"):
        Store(url)
    monkeypatch.undo()
    store = Store(url)
    assert differences(store._engine) == []


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(MatloopError, match="another program"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == before
