"""A space that changes in mid-campaign: through the public command, with real evaluations."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from campaigns import Campaign
from campaigns.cli import main

MEASURE = """
import json
from pathlib import Path

def measure(design, seed):
    with Path(__file__).with_name("seen.jsonl").open("a") as file:
        file.write(json.dumps(design) + "\\n")
    x = design.get("x", 0.5)
    mix = design["mix"]
    return {"y": -(x - 0.3) ** 2 + 0.2 * mix["p"] * mix["q"] + 0.1 * (design["gas"] == "argon")
            + 0.01 * design.get("t", 0.0) + 0.1 * design.get("cand", {"u": 0})["u"]}
"""
SPEC = """\
campaign: moving
space:
  x: {range: [0, 1]}
  gas: {choice: [air, argon, helium]}
  mix: {composition: [p, q, r]}
objectives: {y: {goal: maximize, unit: dimensionless}}
constraints: [p + q >= 0.1]
evaluate: {with: python, function: 'measure.py:measure', workers: 1}
budget: {trials: 10, batch: 5}
seed: 1
"""


class Moving:
    """A campaign whose spec is edited and run again."""

    def __init__(self, folder: Path, capsys) -> None:
        self.folder, self.text, self._capsys = folder, SPEC, capsys
        (folder / "measure.py").write_text(MEASURE)

    def run(self, *edits: tuple[str, str], more: int = 0):
        """Edit the spec, raise the budget and run; status and what was told."""
        for old, new in edits:
            assert old in self.text
            self.text = self.text.replace(old, new)
        before = int(self.text.partition("trials: ")[2].partition(",")[0])
        self.text = self.text.replace(f"trials: {before}", f"trials: {before + more}")
        (self.folder / "spec.yaml").write_text(self.text)
        status = main(["run", "spec.yaml"])
        told = self._capsys.readouterr()
        return status, told.out + told.err

    def refused(self, *edits: tuple[str, str]) -> str:
        """Edit the spec in vain; why."""
        before, spec = self.text, self.campaign().spec
        status, told = self.run(*edits, more=2)
        assert status == 2
        assert "unchanged: that campaign" in told
        assert self.campaign().spec == spec
        self.text = before
        return told

    def campaign(self) -> Campaign:
        return Campaign.open("moving")

    def designs(self, start: int) -> list[dict]:
        return [t["design"] for t in map(self.campaign().trial, range(start, self.count()))]

    def count(self) -> int:
        return len(self.campaign().trials())

    def notes(self) -> list[str]:
        changed = [e for e in self.campaign().events() if e["kind"] == "spec_changed"]
        return changed[-1]["payload"]["notes"]


@pytest.fixture
def moving(tmp_path, monkeypatch, capsys) -> Moving:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path / "cache"))
    made = Moving(tmp_path, capsys)
    status, told = made.run()
    assert status == 0, told
    return made


def test_a_range_is_narrowed_and_widened(moving):
    status, told = moving.run(("x: {range: [0, 1]}", "x: {range: [0.4, 0.6]}"), more=3)
    assert status == 0, told
    assert all(0.4 <= d["x"] <= 0.6 for d in moving.designs(10))
    assert moving.notes() == [
        "the axis x changed: {range: [0.0, 1.0]} became {range: [0.4, 0.6]}"
    ]  # fmt: skip
    assert "left out of the surrogate" not in json.dumps(moving.campaign().events())
    status, told = moving.run(("[0.4, 0.6]", "[-1, 2]"), more=3)
    assert status == 0, told
    fit = moving.campaign().fits()[-1]
    assert fit["report"]["y"]["n"] == 13  # all trials inform
    assert moving.run()[0] == 0
    assert moving.notes()[0].endswith("became {range: [-1.0, 2.0]}")


def test_a_choice_is_removed_and_added(moving):
    status, told = moving.run(("[air, argon, helium]", "[air, neon]"), more=5)
    assert status == 0, told
    assert {d["gas"] for d in moving.designs(10)} <= {"air", "neon"}
    assert set(moving.campaign().spec.space["gas"].retired) == {"argon", "helium"}
    assert moving.campaign().fits()[-1]["report"]["y"]["n"] == 10
    # The same file again is no change; one that was removed may come back.
    count = len(moving.campaign().events())
    assert moving.run()[0] == 0
    kinds = [e["kind"] for e in moving.campaign().events()[count:]]
    assert "spec_changed" not in kinds
    status, told = moving.run(("[air, neon]", "[argon, neon]"), more=3)
    assert status == 0, told
    assert {d["gas"] for d in moving.designs(15)} <= {"argon", "neon"}
    assert set(moving.campaign().spec.space["gas"].retired) == {"air", "helium"}


def test_an_ingredient_is_removed_and_another_added(moving):
    status, told = moving.run(("[p, q, r]", "[p, q, s]"), more=4)
    assert status == 0, told
    for design in moving.designs(10):
        assert design["mix"]["r"] == 0
        assert sum(design["mix"].values()) == pytest.approx(1)
    assert moving.campaign().spec.space["mix"].retired == ("r",)


def test_an_axis_is_added_with_what_the_old_trials_had(moving):
    assert "10 trials have no value" in moving.refused(("  gas:", "  t: {range: [0, 9]}\n  gas:"))
    status, told = moving.run(("  gas:", "  t: {range: [0, 9], default: 2}\n  gas:"), more=4)
    assert status == 0, told
    assert moving.notes() == ["the axis t was added: the 10 trials before had 2.0"]
    assert all("t" in d for d in moving.designs(10))
    assert "t" not in moving.campaign().trial(0)["design"]
    history, _, _ = moving.campaign()._history()
    assert [d["t"] for d in history.designs[:10]] == [2.0] * 10
    assert "no value of it" in moving.refused((", default: 2}", "}"))


def test_an_axis_is_removed(moving):
    status, told = moving.run(("  x: {range: [0, 1]}\n", ""), more=3)
    assert status == 0, told
    assert all("x" not in d for d in moving.designs(10))
    assert "x" in moving.campaign().trial(0)["design"]
    assert "10 trials had a value of it, which stays in the store" in moving.notes()[0]
    assert "not_used" not in json.dumps(moving.campaign().events())
    # It may come back, for the trials that lack it with a default.
    back = ("  gas:", "  x: {range: [0, 1], default: 0.5}\n  gas:")
    status, told = moving.run(back, more=2)
    assert status == 0, told
    history, _, _ = moving.campaign()._history()
    assert history.designs[10]["x"] == 0.5
    assert history.designs[0]["x"] == moving.campaign().trial(0)["design"]["x"]


def test_a_value_is_fixed(moving):
    status, told = moving.run(
        ("x: {range: [0, 1]}", "x: {range: [0, 1], fixed: 0.25}"),
        ("helium]}", "helium], fixed: argon}"),
        more=4,
    )
    assert status == 0, told
    assert {(d["x"], d["gas"]) for d in moving.designs(10)} == {(0.25, "argon")}
    assert moving.campaign().fits()[-1]["report"]["y"]["n"] == 10


def test_constraints_on_parameters_may_change_and_on_metrics_not(moving):
    status, told = moving.run(("p + q >= 0.1", "p + q == 0.5, x <= 0.2"), more=4)
    assert status == 0, told
    for design in moving.designs(10):
        assert design["mix"]["p"] + design["mix"]["q"] == pytest.approx(0.5, abs=1e-5)
        assert design["x"] <= 0.2 + 1e-6
    assert "the constraints on metrics" in moving.refused(("x <= 0.2", "x <= 0.2, y <= 3"))
    assert "exclude" in moving.run(("p + q == 0.5", "p + q == 3"))[1]


def test_a_pool_is_added_and_grows(moving):
    table = moving.folder / "pool.csv"
    table.write_text("u,v\n" + "".join(f"{i / 20},{i % 4}\n" for i in range(20)))
    added = ("  gas:", "  cand: {pool: pool.csv, default: 3}\n  gas:")
    status, told = moving.run(added, more=3)
    assert status == 0, told
    history, _, _ = moving.campaign()._history()
    assert history.designs[0]["cand"] == {"row": 3, "u": 0.15, "v": 3.0}
    # Another table, of other rows: what was observed has its own columns.
    table.write_text("u,v\n" + "".join(f"{i / 30},{i % 5}\n" for i in range(30)))
    status, told = moving.run(more=3)
    assert status == 0, told
    assert moving.campaign().fits()[-1]["report"]["y"]["n"] == 13


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("x: {range: [0, 1]}", "x: {choice: [0, 1]}", "of another kind"),
        ("x: {range: [0, 1]}", "x: {range: [0, 1], unit: K}", "another unit"),
        ("x: {range: [0, 1]}", "x: {range: [0, 1], integer: true}", "cannot describe what trial"),
        ("[p, q, r]}", "[p, q, r], total: 100}", "another total"),
        ("goal: maximize", "goal: minimize", "they differ in objectives"),
    ],
)
def test_what_cannot_be_kept_is_refused(moving, old, new, told):
    assert told in moving.refused((old, new))


def test_handouts_and_exports_after_a_change(moving):
    moving.run(
        ("  x: {range: [0, 1]}\n", ""),
        ("  gas:", "  t: {range: [0, 9], default: 2, unit: K}\n  gas:"),
        more=2,
    )
    for kind in ("csv", "json", "ax", "report"):
        assert main(["export", "moving", "--format", kind]) == 0
    with open("moving.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["t (K)"] == "2.0"
    assert rows[0]["x"] != ""
    assert rows[-1]["x"] == ""
    assert float(rows[-1]["mix.p (dimensionless)"]) >= 0
    page = Path("moving.html").read_text()
    assert "of p, q and r" in page


def test_a_laboratory_with_every_axis(moving):
    table = moving.folder / "pool.csv"
    table.write_text(
        "u,v (mm),kind\n" + "".join(f"{i / 20},{i},{'ab'[i % 2]}\n" for i in range(20))
    )
    text = SPEC.replace("campaign: moving", "campaign: lab")
    text = text.replace("  gas:", "  cand: {pool: pool.csv}\n  gas:")
    Path("lab.yaml").write_text(text.partition("evaluate:")[0] + "evaluate: {with: lab}\n")
    assert main(["propose", "lab.yaml", "-n", "3", "--out", "batch"]) == 0
    with open("batch/candidates.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[2:10] == [
        "x (dimensionless)", "cand.row", "cand.u", "cand.v (mm)", "cand.kind", "gas",
        "mix.p (dimensionless)", "mix.q (dimensionless)",
    ]  # fmt: skip
    for index, row in enumerate(rows):
        row[header.index("y (dimensionless)")] = str(index)
    with open("results.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    rows[0][header.index("cand.row")] = "999"
    with open("mixed_up.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    assert main(["ingest", "lab", "mixed_up.csv"]) == 2
    assert main(["ingest", "lab", "results.csv"]) == 0
    assert Campaign.open("lab").trials()["y"].tolist() == [0.0, 1.0, 2.0]
