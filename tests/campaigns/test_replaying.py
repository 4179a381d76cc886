"""Tables that were damaged are told from whole ones, and made anew from the events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from campaigns.errors import UsageError
from campaigns.rebuilding import rebuild
from campaigns.replaying import differences
from campaigns.service import described, tokens
from campaigns.service.core import Known
from campaigns.store import Store
from campaigns.store.models import CampaignRow
from tests.campaigns.doors import Direct, direct
from tests.campaigns.test_copies import elsewhere, matloop

__all__ = ["elsewhere"]

# By what is damaged, what somebody did to it with SQL, and what is said of it.
DAMAGE = {
    "status": ("UPDATE trial SET status = 'failed' WHERE \"index\" = 0", "trial 0: status"),
    "design": ('UPDATE trial SET design = \'{"x": 9}\' WHERE "index" = 0', "trial 0: design"),
    "lease": ('UPDATE trial SET lease_token = 9 WHERE "index" = 3', "trial 3: lease"),
    "hold": ('UPDATE trial SET held = true WHERE "index" = 5', "trial 5: hold"),
    "realised": ("UPDATE trial SET realised = NULL", "trial 0: realised parameters"),
    "observation": ("UPDATE observation SET mean = mean + 1", "trial 0: observations"),
    "lost rows": ("DELETE FROM observation WHERE metric = 'cost'", "trial 0: observations"),
    "files": ("DELETE FROM artifact", "trial 0: files"),
    "campaign": ("UPDATE campaign SET stopped = NOT stopped", "the campaign: stop"),
    "spec": ("UPDATE campaign SET spec = '{}'", "the campaign: spec"),
}


def lived(door: Direct) -> None:
    """A campaign with every kind of trial."""
    one, two, three, four, *_ = door.lease(6)
    door.report(one, {"cost": (2.0, 0.1)}, partial=True)
    told = {"x": 0.25, "y": {"value": 0.05, "unit": "cm"}}
    door.report(one, {"hardness": 5.0}, realised=told, artifacts={"log.txt": "hot"})
    door.observe({"hardness": 6.0}, trial=0)
    door.observe({}, trial=0, realised={"x": 0.5})
    door.fail(two, "infeasible", "it melted")
    door.fail(three, "lost", "wall time")
    door.lease(1, worker="another")
    door.decide("hold", four.trial)
    door.decide("reject", 4, "toxic")
    door.decide("approve", 6)
    door.observe({"hardness": 1.0}, params={"x": 0.1, "y": 0.1, "gas": "air"}, external_id="A1")
    door.observe({}, params={"x": 0.2, "y": 0.1, "gas": "air"}, external_id="A2")
    door.stop(True)
    with door.store.write() as session:
        tokens.make(session, "robot", ("work",), door.toy.name)


def seen(store: Store) -> list[dict[str, Any]]:
    """All trials, as requests get them, but for what no event tells."""
    with store.read() as session:
        row = session.query(CampaignRow).one()
        from campaigns.spec import Spec

        spec = Spec.model_validate(row.spec)
        known = Known(row.id, row.name, spec, spec.metric_units(), row.stopped, row.state)
        trials = described.trials(session, known, None, -1, 100, whole=True)
    for trial in trials:
        trial.pop("rev")
        for time in ("created", "started", "ended"):
            trial[time] = trial[time] is not None
        if trial["lease"]:
            trial["lease"].pop("expires")
    return trials


def damage(store: Store, statements: list[str]) -> None:
    """Change tables behind matloop's back, triggers or not."""
    with store.write() as session:
        if store.kind == "postgresql":
            session.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
            for name in names.all():
                session.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            session.execute(text(statement))


def told_of(store: Store) -> list[str]:
    with store.read() as session:
        return differences(session, session.query(CampaignRow).one())[1]


def test_each_damage_is_named_and_undone_elsewhere(database, elsewhere, tmp_path) -> None:
    with direct(database, tmp_path) as make:
        door = make(7)
        lived(door)
        store = door.store
        assert told_of(store) == []
        whole = seen(store)
        damage(store, [statement for statement, _ in DAMAGE.values()])
        told = told_of(store)
        for what, (_, words) in DAMAGE.items():
            assert any(one.startswith(words) for one in told), (what, told)
        target = Store(elsewhere)
        rows = rebuild(store, target)
        assert [one.partition(" is")[0] for one in told_of(target)] == ["trial 0: files"]
        found = seen(target)
        found[0]["artifacts"] = whole[0]["artifacts"]  # an event has only its hash
        assert found == whole
        assert rows["api_token"] == 1
        assert rows["event"] == len(door.events())
        with pytest.raises(UsageError, match="there is a database already"):
            rebuild(store, target)
        with target.write() as session:  # it goes on: the next numbers are free
            from campaigns.store.store import record

            record(session, session.query(CampaignRow).one().id, "note", text="it lives")
        target.close()


def test_the_command_finds_and_rebuilds(tmp_path) -> None:
    db, new = (f"sqlite:///{tmp_path / name}" for name in ("matloop.db", "new.db"))
    with direct(db, tmp_path) as make:
        door = make(7)
        lived(door)
        damage(door.store, [DAMAGE["status"][0]])
    found = matloop("replay", "--db", db, cwd=tmp_path)
    assert found.returncode == 1
    assert "trial 0: status is 'completed' by the events and 'failed' in the table" in found.stderr
    assert matloop("replay", "--db", db, "--into", new, cwd=tmp_path).returncode == 0
    again = matloop("replay", "--db", new, "--json", cwd=tmp_path)
    (told,) = json.loads(again.stdout)["data"]["campaigns"]
    assert (told["trials"], told["differences"]) == (9, [])
