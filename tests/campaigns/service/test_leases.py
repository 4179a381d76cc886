"""What reports leave behind; what a lease is, `test_conformance` has."""

from __future__ import annotations

from sqlalchemy import select

from campaigns.store.models import CampaignRow


def test_a_refusal_is_a_problem(door):
    (lease,) = door.lease()
    door.expire()
    door.lease()
    late = door.report(lease)
    assert late.status_code == 409
    assert late.headers["content-type"] == "application/problem+json"


def test_infeasible_teaches_and_lost_does_not(door):
    first, second = door.lease(2)
    assert door.fail(first, "infeasible", "it melted").json()["status"] == "infeasible"
    assert door.fail(second, "lost", "wall time").json()["status"] == "candidate"
    from campaigns.campaign import Campaign

    with door.service.store.read() as session:
        row = session.scalars(select(CampaignRow)).one()
    history, *_ = Campaign(door.service.store, row)._history()
    assert history.failed.tolist() == [True]
    told = door.get(f"/trials/{first['trial']}").json()
    assert told["failure"] == "it melted"
    (again, *_) = door.lease()
    assert (again["trial"], again["token"]) == (second["trial"], 2)


def test_artifacts_are_kept_by_their_content(door):
    (lease,) = door.lease()
    files = [
        {"name": "log.txt", "text": "hi"},
        {"name": "a.bin", "media_type": "application/octet-stream", "base64": "AAEC"},
    ]
    assert door.report(lease, artifacts=files).status_code == 200
    told = door.get(f"/trials/{lease['trial']}").json()["artifacts"]
    assert [t["name"] for t in told] == ["log.txt", "a.bin"]
    answers = [door.get(f"/v1/artifacts/{t['sha256']}") for t in told]
    assert [a.content for a in answers] == [b"hi", b"\x00\x01\x02"]
    assert "attachment" in answers[0].headers["content-disposition"]
    assert door.get("/v1/artifacts/" + "0" * 64).status_code == 404
