from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.csv_cells import neutral, original
from campaigns.watch import Watch
from campaigns.watch_desks import Desk, open_desk
from tests.campaigns.served import LAB, Toy, until


class Folder:
    """A watched folder, looked at when a test says so."""

    def __init__(self, desk: Desk, path: Path, n: int = 2) -> None:
        self.path, self.desk = path, desk
        self.watch = Watch(path, desk, n, 0.0)

    def look(self) -> None:
        self.watch.look()
        self.watch.look()  # what the first saw is whole at the second

    def drop(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)
        self.look()

    def proposals(self) -> list[dict[str, str]]:
        with (self.path / "proposals.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def names(self, folder: str) -> list[str]:
        return sorted(p.name for p in (self.path / folder).glob("*"))


@pytest.fixture(params=["server", "db"])
def place(request, served, tmp_path) -> Iterator[tuple[Folder, Toy]]:
    """The same folder over a server and over a database here."""
    toy = served.toy(3, LAB)
    where: dict[str, Any] = {"server": served.url} if request.param == "server" else {}
    desk = open_desk(
        toy.name, server=where.get("server"), key=served.key, db=served.db, folder=tmp_path,
        ttl=600.0, tell=print,
    )  # fmt: skip
    yield Folder(desk, tmp_path), toy
    desk.close()


def test_proposals_go_out_and_results_come_in(place) -> None:
    folder, toy = place
    folder.look()
    rows = folder.proposals()
    assert [row["trial"] for row in rows][:2] == ["0", "1"]
    assert float(rows[0]["y (mm)"]) == pytest.approx(toy.trials()[0]["design"]["y"], rel=1e-6)
    assert rows[0]["hardness (GPa)"] == ""
    folder.drop("friday.csv", "trial,hardness (MPa),cost,cost_sem\n0,4200,1.5,0.1\n")
    first = toy.trials()[0]
    assert first["status"] == "completed"
    assert first["observations"]["hardness"]["mean"] == pytest.approx(4.2)
    assert [row["trial"] for row in folder.proposals()] == ["1", "2"]
    assert folder.names("done")[0].startswith("friday-")
    assert not (folder.path / "quarantine").exists()


def test_a_table_that_was_filled_in_and_saved_in_its_place_is_taken_in(place) -> None:
    folder, toy = place
    folder.look()
    rows = folder.proposals()
    rows[1] |= {"hardness (GPa)": "3.5", "cost (dimensionless)": "2", "source": "Ada"}
    with (folder.path / "proposals.csv").open("w", newline="") as file:
        made = csv.DictWriter(file, list(rows[0]), delimiter=";")  # as some spreadsheets do
        made.writeheader()
        made.writerows(rows)
    folder.look()
    assert toy.statuses()[:2] != ["completed", "completed"]
    assert toy.trials()[1]["observations"]["hardness"]["source"] == "Ada"
    assert [row["trial"] for row in folder.proposals()] == ["0", "2"]


def test_wrong_rows_are_put_aside_with_the_reason_and_the_others_taken_in(place) -> None:
    folder, toy = place
    folder.watch.n = 1
    folder.look()
    rows = ["0,4,1,,", "1,soft,1,,", "77,3,1,,", "2,,,failed,it broke"]
    folder.drop("mixed.csv", "\n".join(["trial,hardness (GPa),cost,status,reason", *rows]))
    assert (toy.statuses()[0], toy.statuses()[2]) == ("completed", "failed")
    bad, why = folder.names("quarantine")
    assert (folder.path / "quarantine" / bad).read_text().splitlines()[1:] == [
        "1,soft,1,,",
        "77,3,1,,",
    ]
    told = (folder.path / "quarantine" / why).read_text()
    assert "mixed.csv, row 3" in told
    assert "no trial 77" in told
    assert len(folder.names("done")) == 1
    # Put right and dropped again.
    text = (folder.path / "quarantine" / bad).read_text()
    folder.drop("again.csv", text.replace("soft", "5").replace("77,3,1,,\n", ""))
    assert toy.trials()[1]["status"] == "completed"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("noise.csv", "hello\nworld\n"),
        ("empty.csv", ""),
        ("wrong.json", '{"results": [{"trial": 0, "hardness": NaN}]}'),
        ("other.csv", "trial,colour\n0,red\n"),
        ("cut.csv", 'trial,hardness\n0,"4'),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_put_aside(place, name, text) -> None:
    folder, toy = place
    folder.drop(name, text)
    assert len(folder.names("quarantine")) == 2
    assert not (folder.path / name).exists()
    assert "completed" not in toy.statuses()


def test_a_file_is_read_when_it_has_stopped_growing(served, tmp_path) -> None:
    toy = served.toy(1, LAB)
    desk = open_desk(
        toy.name, server=None, key=None, db=served.db, folder=tmp_path, ttl=None, tell=print
    )
    watch = Watch(tmp_path, desk, 1, settle=0.3)
    with (tmp_path / "slow.csv").open("w") as file:
        for part in ("trial,hard", "ness (GPa),cost\n", "0,4.", "25,1\n"):
            file.write(part)
            file.flush()
            assert watch.look() == 0
            time.sleep(0.12)
    until(lambda: watch.look() == 1)
    assert toy.trials()[0]["observations"]["hardness"]["mean"] == 4.25
    for name in (".hidden.csv", "~$open.csv", "copy.csv.part", "notes.docx"):
        (tmp_path / name).write_text("trial,hardness\n0,1\n")
    (tmp_path / "link.csv").symlink_to("/etc/passwd")
    time.sleep(0.4)
    assert watch.look() == 0
    desk.close()


def test_being_killed_before_the_move_changes_nothing(place) -> None:
    folder, toy = place
    folder.look()
    text = "trial,hardness (GPa),cost\n0,4,1\n9,1,1\n"
    folder.drop("a.csv", text)
    folder.drop("a.csv", text)  # as if it had not been moved
    assert len(toy.trials()[0]["observations"]) == 2
    assert len(folder.names("done")) == 1
    assert len(folder.names("quarantine")) == 2


def test_the_next_start_has_the_same_trials(served, tmp_path) -> None:
    toy = served.toy(3, LAB)
    for _ in range(2):
        desk = open_desk(
            toy.name, server=served.url, key=served.key, db=None, folder=tmp_path, ttl=600.0,
            tell=print,
        )  # fmt: skip
        folder = Folder(desk, tmp_path)
        folder.look()
        assert [row["trial"] for row in folder.proposals()] == ["0", "1"]
        desk.close()
    assert toy.statuses() == ["running", "running", "candidate"]


@given(st.text(max_size=30))
def test_no_cell_is_a_formula_and_every_cell_comes_back(text) -> None:
    cell = neutral(text)
    assert original(cell) == text or not cell.startswith("'")
    try:
        float(cell)
    except ValueError:
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("cell", ['=cmd|" /C calc"!A0', "+1+1", "@SUM(A1)", "-2+3", " =1", "\t=1"])
def test_formulas_are_told_to_be_text(cell) -> None:
    assert neutral(cell) == f"'{cell}"
    assert original(f"'{cell}") == cell


@pytest.mark.parametrize("cell", ["-1.5", "+3e-4", "air", 3, -2.5, None, "'quoted'"])
def test_numbers_and_words_stay(cell) -> None:
    assert neutral(cell) == cell
