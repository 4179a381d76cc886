"""With NIMO's own functions and a robot that reads and writes its files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from campaigns.adapters.nimo import NimoFolder
from tests.campaigns.served import LAB

nimo = pytest.importorskip("nimo", reason="NIMO NOT TESTED: pip install '.[adapters]'")


def robot(folder: Path, says: str) -> list[str]:
    """Do what the machine file says, and write results as NIMO's standard robot does."""
    (told,) = folder.glob("[0-9]*.csv")
    _, line = told.read_text().splitlines()
    told.unlink()
    (folder / "results.csv").write_text(says)
    (folder / "outputend.txt").touch()
    return line.split(",")


def test_nimos_robot_works_a_campaign_off(served, tmp_path) -> None:
    toy = served.toy(3, LAB)
    with served.client() as client:
        work = NimoFolder(client, toy.name, tmp_path, patience=5.0)
        for says in ("4.5,1.25", "failed,1", "5.5,2"):
            work.propose(1)
            nimo.preparation_input(
                machine="STAN", input_file=str(work.proposals), input_folder=str(tmp_path)
            )
            made = robot(tmp_path, says)
            nimo.analysis_output(
                machine="STAN", input_file=str(work.proposals), output_file=str(work.candidates),
                num_objectives=work.num_objectives, output_folder=str(tmp_path),
            )  # fmt: skip
            assert sum(map(len, work.take_in().values())) == 1
        assert work.take_in() == {"completed": [], "failed": []}
        work.close()
    assert toy.statuses() == ["completed", "failed", "completed"]
    assert toy.trials()[0]["observations"]["hardness"]["mean"] == 4.5
    assert "failed" in toy.trials()[1]["failure"]
    assert float(made[0]) == pytest.approx(toy.trials()[2]["design"]["x"])


def test_a_program_that_was_killed_goes_on_with_its_rows(served, tmp_path) -> None:
    toy = served.toy(2, LAB)
    with served.client() as client:
        first = NimoFolder(client, toy.name, tmp_path, patience=5.0)
        first.propose(2)
        first.close()
        with first.candidates.open(newline="") as file:
            rows = list(csv.reader(file))
        rows[2][-2:] = ["7", "1"]
        with first.candidates.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        second = NimoFolder(client, toy.name, tmp_path)
        assert second.take_in() == {"completed": [1], "failed": []}
        second.close()
    assert toy.statuses() == ["running", "completed"]
