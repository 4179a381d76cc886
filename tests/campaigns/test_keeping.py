"""Backup, restore, replay: what is in the store can be had again, and is what happened."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from campaigns.campaign import Campaign
from campaigns.cli import main
from campaigns.store import Store


def finished(toy):
    toy.write(trials=4, batch=2, workers=1, melts_above=0.8)
    Campaign.create(toy.spec, toy.db).run()
    return toy.db


def test_backup_restore_replay(toy, tmp_path, capsys):
    db = finished(toy)
    copy, other = tmp_path / "copy.db", f"sqlite:///{tmp_path / 'other.db'}"
    assert main(["replay", "--db", db]) == 0
    assert "4 trials" in capsys.readouterr().out
    assert main(["backup", str(copy), "--db", db]) == 0
    assert main(["backup", str(copy), "--db", db]) == 2
    assert main(["restore", str(copy), "--db", db]) == 2
    assert main(["restore", str(copy), "--db", other]) == 0
    capsys.readouterr()
    out = tmp_path / "rebuilt.json"
    assert main(["replay", "toy", "--db", other, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]["campaigns"][0]
    assert (told["trials"], told["differences"]) == (4, [])
    rebuilt = json.loads(out.read_text())["toy"]
    with Campaign.open("toy", other) as campaign:
        for index, row in campaign.trials().iterrows():
            assert rebuilt[str(index)]["design"] == row["design"]
            assert rebuilt[str(index)]["status"] == row["status"]


def test_a_table_that_somebody_changed_is_found(toy, capsys):
    db = finished(toy)
    store = Store(db)
    with store.write() as session:
        session.execute(text("UPDATE trial SET status = 'abandoned' WHERE \"index\" = 1"))
    store.close()
    assert main(["replay", "--db", db]) == 1
    assert "trial 1: status" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no database"])
def test_what_is_no_copy_is_not_restored(tmp_path, content, capsys):
    (tmp_path / "copy.db").write_bytes(content)
    target = f"sqlite:///{tmp_path / 'new.db'}"
    assert main(["restore", str(tmp_path / "copy.db"), "--db", target]) != 0
    assert not (tmp_path / "new.db").exists()
