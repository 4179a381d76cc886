"""How designs are chosen, as a person says it: in the spec, and by ranking pairs of trials."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from campaigns import Campaign
from campaigns.cli import main
from campaigns.errors import InputErrors, UsageError
from campaigns.results_file import Reading
from campaigns.spec import load_spec

SPEC = """
campaign: pick
space:
  x: {range: [0, 1]}
  y: {range: [0, 1]}
objectives:
%s
evaluate: {with: lab}
budget: {trials: 60, batch: 4}
%s
"""
TWO = "  a: {goal: maximize, unit: GPa}\n  b: {goal: minimize, unit: dimensionless}"
LEVEL = "  a: {goal: 'level: 0.5', unit: GPa}"


def written(tmp_path, objectives=TWO, rest=""):
    file = tmp_path / "pick.yaml"
    file.write_text(SPEC % (objectives, rest))
    return file


def problems(file) -> str:
    with pytest.raises(InputErrors) as error:
        load_spec(file)
    return "; ".join(f"{p.what} ({p.hint})" for p in error.value.problems)


def answer(campaign, trials):
    readings = []
    for trial in trials:
        x, y = (campaign.trial(trial)["design"][k] for k in "xy")
        values = {"a": x - 0.3 * (y - 0.5) ** 2, "b": x**2 + 0.3 * (y - 0.5) ** 2}
        readings += [
            Reading(
                trial=trial, metric=m, mean=values[m], sem=None, unit=u, status="completed",
                reason=None, row=1,
            )
            for m, u in campaign.spec.metric_units().items()
        ]  # fmt: skip
    campaign.ingest(readings)


def grown(campaign, batches):
    for _ in range(batches):
        answer(campaign, [t["trial"] for t in campaign.propose()])


def told(capsys) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out)["data"])


# The spec


def test_what_cannot_choose_is_said(tmp_path):
    assert "did you mean 'thompson'" in problems(written(tmp_path, rest="acquisition: thomson"))
    assert "no objective is a level" in problems(written(tmp_path, rest="acquisition: level-set"))
    assert "no axis is latent" in problems(written(tmp_path, rest="acquisition: substitution"))
    levels = "fidelities: {quick: {cost: 1}, slow: {cost: 10}}\nacquisition: evolution"
    assert "cannot choose between fidelities" in problems(written(tmp_path, rest=levels))
    assert "there is no best" in problems(written(tmp_path, LEVEL, "acquisition: mean"))
    assert "there is no better" in problems(written(tmp_path, LEVEL, "stop: {stalled_after: 3}"))
    mixed = LEVEL + "\n  b: {goal: minimize, unit: dimensionless}"
    assert "sought by itself" in problems(written(tmp_path, mixed))
    limited = LEVEL.replace("unit: GPa", "unit: GPa, threshold: 3")
    assert "both sides of it are sought" in problems(written(tmp_path, limited))
    narrow = TWO.replace("maximize", "'target: 1 within 0.1'").replace("GPa", "GPa, threshold: 0.1")
    assert "as good as none" in problems(written(tmp_path, narrow))
    assert "not a goal" in problems(written(tmp_path, LEVEL.replace("level: 0.5", "levle: 0.5")))
    assert "level: 1.4" in problems(written(tmp_path, LEVEL.replace("level: 0.5", "level: 0,5")))


@pytest.mark.parametrize("goal", ["'level: 0.5'", "{level: 0.5}", "{level: '0.5'}", "level 0.5"])
def test_a_level_is_read(tmp_path, goal, capsys):
    file = written(tmp_path, LEVEL.replace("'level: 0.5'", goal))
    spec = load_spec(file)
    (objective,) = spec.goals().objectives
    assert (objective.goal, objective.target, objective.unit) == ("level", 0.5, "GPa")
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert main(["validate", str(file)]) == 0
    assert "wants where a crosses 0.5 GPa" in capsys.readouterr().out


def test_it_may_change_in_mid_campaign(tmp_path):
    db = f"sqlite:///{tmp_path / 'matloop.db'}"
    campaign = Campaign.create(written(tmp_path), db)
    grown(campaign, 2)
    file = written(tmp_path, rest="acquisition: evolution")
    campaign = Campaign.create_or_open(file, db)
    assert campaign.events(last=1)[0]["payload"]["changed"] == ["acquisition"]
    assert {t["provenance"]["method"] for t in campaign.propose()} == {"evolution"}


# Hedge: what a member is worth outlives a kill


def test_members_are_found_again_in_the_store(tmp_path):
    db = f"sqlite:///{tmp_path / 'matloop.db'}"
    campaign = Campaign.create(written(tmp_path, rest="acquisition: hedge"), db)
    grown(campaign, 3)
    members = [t["provenance"]["notes"].get("member") for t in map(campaign.trial, range(12))]
    assert members[:4] == [None] * 4
    assert set(members[8:]) <= {"bold", "cautious", "improvement", "thompson"}
    history, *_ = Campaign.open("pick", db)._history()
    assert history.members == members
    campaign.propose()
    notes = campaign.events(last=1)[0]["payload"]["notes"]
    assert any(note.startswith("who chooses") for note in notes)


# Levels


def test_the_sides_of_a_level(tmp_path):
    db = f"sqlite:///{tmp_path / 'matloop.db'}"
    campaign = Campaign.create(written(tmp_path, LEVEL), db)
    with pytest.raises(UsageError, match="nothing can be classified"):
        campaign.classified()
    grown(campaign, 4)
    assert {t["provenance"]["method"] for t in campaign.propose()} == {"straddle"}
    found = campaign.classified()
    assert len(found) == 1000
    truth = np.array([d["x"] - 0.3 * (d["y"] - 0.5) ** 2 > 0.5 for d in found["design"]])
    sure = found["a"] != "unsure"
    assert sure.mean() > 0.8
    assert ((found["a"] == "above") == truth)[sure].mean() > 0.99
    two = campaign.classified([{"x": 0.0, "y": 0.5}, {"x": 1.0, "y": 0.5}])
    assert two["a"].tolist() == ["below", "above"]
    lessons = {lesson["topic"]: lesson["sentence"] for lesson in campaign.explain()["learnt"]}
    assert "surely above a 0.5 GPa" in lessons["level"]
    assert "best" not in lessons
    with pytest.raises(UsageError, match="is a level"):
        campaign.prefer(0, 1)
    out = tmp_path / "report.html"
    main(["export", "pick", "--db", db, "--format", "report", "--out", str(out)])
    assert "find where a crosses" in out.read_text().lower().replace("<i>", "")


# Preferences


def test_pairs_are_ranked_asked_and_taken_back(tmp_path, capsys):
    db = f"sqlite:///{tmp_path / 'matloop.db'}"
    campaign = Campaign.create(written(tmp_path), db)
    options = ["--db", db, "--json"]
    assert main(["prefer", "pick", "--ask", *options]) == 2
    assert "nothing to ask" in capsys.readouterr().out
    grown(campaign, 2)
    campaign.propose()
    for arguments, word in [
        (["0", "99"], "there is no trial 99"),
        (["0", "0"], "as good as itself"),
        (["0", "8"], "has no result of a, b"),
        (["0"], "between two trials"),
        (["--undo"], "no pair was ranked"),
        (["0", "1", "--ask"], "only asks"),
    ]:
        assert main(["prefer", "pick", *arguments, *options]) == 2
        assert word in capsys.readouterr().out
    for a, b in [(0, 1), (1, 2), (2, 1), (3, 0), (3, 0)]:
        assert main(["prefer", "pick", str(a), str(b), *options]) == 0
        last = told(capsys)
    assert last["changed"] is False
    assert last["preferences"]["pairs"] == [
        {"better": 0, "worse": 1}, {"better": 2, "worse": 1}, {"better": 3, "worse": 0},
    ]  # fmt: skip
    assert main(["prefer", "pick", "--undo", *options]) == 0
    assert told(capsys)["undone"] == {"better": 3, "worse": 0}
    assert main(["status", "pick", *options]) == 0
    assert told(capsys)["preferences"]["used"] is False
    assert main(["prefer", "pick", "--ask", "--db", db]) == 0
    text = capsys.readouterr().out
    assert "which is better?" in text
    assert "next: matloop prefer pick" in text
    # nothing that was said is deleted
    kinds = [e["kind"] for e in campaign.events() if e["kind"].startswith("preference")]
    assert kinds == ["preference"] * 4 + ["preference_undone"]


def test_ranked_pairs_choose_what_is_proposed(tmp_path, capsys):
    db = f"sqlite:///{tmp_path / 'matloop.db'}"
    campaign = Campaign.create(written(tmp_path), db)
    grown(campaign, 3)
    ranked = sorted(range(12), key=lambda t: -campaign.trial(t)["observations"]["a"]["mean"])
    for a, b in zip(ranked[:4], ranked[4:8], strict=True):
        assert campaign.prefer(a, b) == {"changed": True, "replaced": False}
    assert campaign.preferences()["used"] is True
    proposed = campaign.propose()
    assert {t["provenance"]["method"] for t in proposed} == {"EUI"}
    assert np.mean([t["design"]["x"] for t in proposed]) > 0.7
    assert main(["status", "pick", "--db", db]) == 0
    assert "4 ranked pairs of trials say what is better" in capsys.readouterr().out
    out = tmp_path / "report.html"
    assert main(["export", "pick", "--db", db, "--format", "report", "--out", str(out)]) == 0
    assert "said of 4 pairs of trials" in out.read_text()


def test_one_objective_needs_no_preferences(tmp_path):
    db = f"sqlite:///{tmp_path / 'matloop.db'}"
    campaign = Campaign.create(written(tmp_path, TWO.split("\n")[0]), db)
    with pytest.raises(UsageError, match="between objectives"):
        campaign.prefer(0, 1)
