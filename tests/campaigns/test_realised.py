"""What was asked for is the design; what was made is what is learnt from."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import select

from campaigns.campaign import Campaign
from campaigns.errors import InputErrors
from campaigns.realised import made, refusal
from campaigns.replaying import differences
from campaigns.spec import Spec
from campaigns.store.models import CampaignRow, Observation
from tests.campaigns.doors import Refusal, direct
from tests.campaigns.served import Toy

SPEC = Spec.model_validate(
    {
        "campaign": "c",
        "space": {
            "t": {"range": [900, 1500], "unit": "K"},
            "p": {"range": [1, 100], "log": True},
            "gas": {"choice": ["air", "argon"]},
            "hours": {"choice": [1, 2, 4]},
            "alloy": {"composition": ["Fe", "Co", "Ni"], "total": 100},
        },
        "objectives": {"hardness": {"goal": "maximize", "unit": "GPa"}},
        "evaluate": {"with": "lab"},
    }
)
DESIGN = {
    "t": 1000.0, "p": 10.0, "gas": "air", "hours": 2,
    "alloy": {"Fe": 50.0, "Co": 30.0, "Ni": 20.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("t", 890.0, True), ("t", 1510.0, True), ("t", 2400.0, False), ("t", "hot", False),
        ("p", 0.5, True), ("p", 0.0, False), ("p", 1e5, False),
        ("gas", "argon", True), ("gas", "argn", False), ("gas", 1.0, False),
        ("hours", 2.25, True), ("hours", "long", False),
        ("alloy.Fe", 50.5, True), ("alloy.Cr", 1.0, False), ("alloy", 1.0, False),
        ("alloy.Fe", -1.0, False), ("pressure", 1.0, False), ("t.x", 1000.0, False),
    ],
)  # fmt: skip
def test_what_may_be_told(name, value, good) -> None:
    assert (refusal(SPEC, name, value) is None) is good


def test_what_is_learnt_from() -> None:
    told = {"t": 1010.0, "p": 9.5, "gas": "argon", "hours": 2.25, "alloy.Fe": 60.0}
    found = made(SPEC, DESIGN, {name: {"value": value} for name, value in told.items()})
    assert found == {
        "t": 1010.0, "p": 9.5, "gas": "argon", "hours": 2,
        "alloy": pytest.approx({"Fe": 60.0, "Co": 24.0, "Ni": 16.0}),
    }  # fmt: skip
    whole = {"alloy.Fe": {"value": 51.0}, "alloy.Co": {"value": 30.6}, "alloy.Ni": {"value": 20.4}}
    assert made(SPEC, DESIGN, whole)["alloy"] == pytest.approx(DESIGN["alloy"])
    assert made(SPEC, DESIGN, {"gone": {"value": 1.0}}) == DESIGN


def test_a_fit_sees_what_was_made(tmp_path) -> None:
    """Asked for at random, made on a line that leaves the bounds a little."""
    numbers = random.Random(1)
    with direct(f"sqlite:///{tmp_path / 'matloop.db'}", tmp_path) as make:
        door = make(14)
        lines = [-0.03 + i * 1.06 / 13 for i in range(14)]
        numbers.shuffle(lines)
        for lease, x in zip(door.lease(14), lines, strict=True):
            hardness = 10.0 * (1 - (x - 0.6) ** 2)
            told = {"x": x, "gas": ("air", "argon")[lease.trial % 2]}
            door.report(lease, {"hardness": hardness, "cost": 1.0 + x}, realised=told)
        campaign = door.toy.campaign
        history, *_ = campaign._history()
        assert sorted(d["x"] for d in history.made) == pytest.approx(sorted(lines))
        assert [d["x"] for d in history.designs] != [d["x"] for d in history.made]
        (trial,) = campaign.propose(1)
        x, told = trial["design"]["x"], trial["provenance"]["prediction"]
        # by what was asked for, x would tell nothing: hardness varies by 3.6, cost by 1
        assert told["hardness"]["mean"] == pytest.approx(10 * (1 - (x - 0.6) ** 2), abs=0.3)
        assert told["cost"]["mean"] == pytest.approx(1 + x, abs=0.1)


def test_a_later_word_corrects_what_was_made(tmp_path) -> None:
    with direct(f"sqlite:///{tmp_path / 'matloop.db'}", tmp_path) as make:
        door = make(1)
        (lease,) = door.lease()
        door.report(lease, {"hardness": 1.0, "cost": 1.0}, realised={"x": 0.5})
        for _ in range(2):
            door.observe({}, trial=0, realised={"x": 0.25})
        assert door.trial(0)["realised"]["x"]["value"] == 0.25
        assert door.kinds().count("trial_realised") == 1
        with pytest.raises(Refusal, match="far from"):
            door.observe({}, trial=0, realised={"x": 25.0})


def test_a_campaign_that_learns_from_another_learns_what_was_made(tmp_path) -> None:
    with direct(f"sqlite:///{tmp_path / 'matloop.db'}", tmp_path) as make:
        door = make(3)
        for lease, x in zip(door.lease(3), (0.125, 0.25, 0.5), strict=True):
            door.report(lease, {"hardness": x, "cost": 1.0}, realised={"x": x})
        later = Toy(door.toy.db, tmp_path, "later", 0)
        text = later.spec.read_text() + f"learn_from: [{door.toy.name}]\n"
        later.spec.write_text(text)
        from campaigns.transfer import with_earlier

        campaign = Campaign.create_or_open(later.spec, door.toy.db)
        history, _ = with_earlier(campaign, campaign._history()[0])
        assert [d["x"] for d in history.designs] == [0.125, 0.25, 0.5]


def test_a_table_says_what_was_made(tmp_path) -> None:
    campaign = Campaign.create_or_open(SPEC, f"sqlite:///{tmp_path / 'matloop.db'}")
    gas = [t["design"]["gas"] for t in campaign.propose(3)]
    table = tmp_path / "back.csv"

    def ingest(*rows: str, unit: str = "degC"):
        head = f"trial,hardness (MPa),t_realised ({unit}),gas_realised,status"
        table.write_text("\n".join([head, *rows]))
        return campaign.ingest(table)

    with pytest.raises(InputErrors) as told:
        ingest("0,5000,90000,,", "1,5000,hot,argn,", "2,,800,,")
    assert [(p.where.removeprefix(f"{table}, "), p.what) for p in told.value.problems] == [
        ("row 3, column t_realised", "'hot' is not a number"),
        ("row 4", "a parameter as realised, but no value of a metric"),
    ]
    with pytest.raises(InputErrors, match="no unit of that"):
        ingest("0,5000,900,,", unit="GPa")
    with pytest.raises(InputErrors) as told:
        ingest("0,5000,90000,,", "1,5000,,argn,")
    assert [p.where for p in told.value.problems] == [
        "back.csv, row 2, trial 0, t_realised", "back.csv, row 3, trial 1, gas_realised",
    ]  # fmt: skip
    assert all(t["realised"] is None for t in map(campaign.trial, range(3)))

    done = ingest("0,5000,800,argon,", "1,,900,,failed", "2,4000,,,")
    assert (done.completed, done.failed, done.realised) == ([0, 2], [1], [0, 1])
    assert campaign.trial(0)["realised"] == {
        "t": {"value": 1073.15, "unit": "K", "raw_value": 800.0, "raw_unit": "degC"},
        "gas": {"value": "argon"},
    }
    assert campaign.trial(0)["design"]["gas"] == gas[0]
    done = ingest("0,5000,810,argon,", "1,,900,,failed", "2,4000,,,")
    assert (done.corrected, done.repeated, done.realised) == (0, 3, [0])
    with campaign.store.read() as session:
        told = session.scalars(select(Observation).order_by(Observation.id)).all()
        assert [(o.mean, o.raw_value, o.raw_unit) for o in told] == [
            (5.0, 5000.0, "MPa"), (4.0, 4000.0, "MPa"),
        ]  # fmt: skip
        row = session.scalars(select(CampaignRow)).one()
        assert differences(session, row)[1] == []
    campaign.close()
