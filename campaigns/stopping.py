"""The stop rules of a campaign: what its store says to `loop.stopping`, and a person's answers.

The store is the only memory. A verdict is found anew from the trials whenever it is asked for; what
the store keeps is that a person was told of it (an event ``run_paused``, or ``run_ended`` with the
rules) and went on all the same (``run_resumed``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import fidelities, records
from campaigns.fidelities import counting
from campaigns.spec_models import MOST_TRIALS
from campaigns.store.models import FAILED, CampaignRow, Event, Trial
from campaigns.store.store import record

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from campaigns.spec import Spec
    from loop.fidelities import Left
    from loop.stopping import Recorded, Verdict

BUDGET = "budget"
"""The rule of a budget that asks, beside those of `loop.stopping`."""


def standing(campaign: Campaign, budget: int | None = None) -> list[Verdict]:
    """The verdicts that stand on what is in the store; none while the campaign should go on.

    Args:
        campaign: Which.
        budget: Of trials, that a person named for this run: one that is spent does not ask.
    """
    from loop.stopping import judge

    rules, found = campaign.spec.stop_rules(), []
    if rules is not None:
        with campaign.store.read() as session:
            recorded = _recorded(session, campaign._row.id, campaign.spec, campaign.goals.metrics)
        found = judge(campaign.goals, rules, recorded)
    if budget is None and campaign.spec.budget.then == "ask":
        found += _budget_spent(campaign)
    return found


def _budget_spent(campaign: Campaign) -> list[Verdict]:
    """A verdict where all that the budget paid for was tried, and it pays for no more."""
    from loop.stopping import Verdict

    trials, paid, spec = campaign._trials(), campaign.granted(), campaign.spec
    left = fidelities.left(spec, trials, paid["trials"], paid["cost"])
    assert left.trials is not None
    waits = any(trial.status in ("candidate", "running") for trial in trials)
    if waits or (left.trials >= 1 and fidelities.pays(spec, left)):
        return []
    counted = sum(map(fidelities.budgeted, trials))
    more: dict[str, float | None] = {
        "trials": min(counted + spec.budget.trials, MOST_TRIALS),
        "cost": None,
    }
    if spec.cost_budget is not None:
        more["cost"] = (fidelities.spent(spec, trials) or 0.0) + spec.cost_budget
    data = {"of": _of(spec.budget.model_dump(mode="json")), "granted": more}
    return [Verdict(BUDGET, spent(spec, left, paid), records.plain(data))]


def spent(spec: Spec, left: Left, granted: Mapping[str, Any]) -> str:
    """That a budget is spent, in words: of trials, or of costs; see `granted`."""
    if left.trials is not None and left.trials < 1:
        return f"the budget of {granted['trials']} trials is spent"
    rest = max(0.0, round(left.cost or 0.0, 9))
    return (
        f"the cost budget of {granted['cost']:g} {spec.cost_unit or ''}".rstrip()
        + f" is spent: the {rest:g} that is left does not pay for another evaluation of what is"
        " sought"
    )


def asks(spec: Spec, verdicts: Sequence[Verdict]) -> bool:
    """Whether what was found pauses the campaign and asks, and does not end it."""
    then = {v.rule: spec.budget.then if v.rule == BUDGET else spec.stop.then for v in verdicts}
    return all(what == "ask" for what in then.values())


def granted(
    budget: Mapping[str, Any], events: Iterable[tuple[str, Mapping[str, Any]]]
) -> dict[str, Any] | None:
    """What a person granted last beyond a budget: `trials` and `cost` in all; None: nothing.

    It counts as long as the spec says the same of trials and costs: another budget in the spec is
    an answer too.

    Args:
        budget: Of the spec, as data.
        events: Kinds and payloads of the campaign's events, in order.
    """
    found: dict[str, Any] | None = None
    for kind, told in events:
        for verdict in told.get("overruled") or () if kind == "run_resumed" else ():
            if verdict["rule"] == BUDGET and verdict["data"]["of"] == _of(budget):
                found = verdict["data"]["granted"]
    return found if budget.get("then") == "ask" else None


def granted_in(
    session: Session, campaign_id: int, budget: Mapping[str, Any]
) -> dict[str, Any] | None:
    """`granted` by the events of the store."""
    if budget.get("then") != "ask":
        return None
    events = session.scalars(
        select(Event)
        .where(Event.campaign_id == campaign_id, Event.kind == "run_resumed")
        .order_by(Event.id)
    )
    return granted(budget, ((event.kind, event.payload) for event in events))


def _of(budget: Mapping[str, Any]) -> dict[str, Any]:
    return {key: budget.get(key) for key in ("trials", "cost")}


def _answered(session: Session, campaign_id: int, verdict: Mapping[str, Any]) -> bool:
    """Whether the spec says something else of the budget now than when its verdict was told."""
    if verdict["rule"] != BUDGET:
        return False
    spec = session.get_one(CampaignRow, campaign_id).spec
    return bool(verdict["data"]["of"] != _of(spec.get("budget") or {}))


def tell(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Verdicts as an event has them."""
    told = [{"rule": v.rule, "message": v.message, "data": v.data} for v in verdicts]
    return {"verdicts": records.plain(told)}


def ask(session: Session, campaign: Campaign, verdicts: Sequence[Verdict]) -> None:
    """Write the question whether to go on, inside the caller's transaction."""
    record(
        session, campaign._row.id, "run_paused", **tell(verdicts),
        question=f"{sentence(verdicts)}: {_what_next(campaign, verdicts)}?",
        answer=f"`matloop run {campaign.name} --go-on` goes on; without an answer it stays as it "
        "is",
    )  # fmt: skip


def _what_next(campaign: Campaign, verdicts: Sequence[Verdict]) -> str:
    if all(verdict.rule != BUDGET for verdict in verdicts):
        return "go on all the same"
    budget = campaign.spec.budget
    return f"go on with {budget.trials if budget.cost is None else budget.cost} more"


def sentence(verdicts: Sequence[Verdict]) -> str:
    """What the rules found, in a sentence."""
    return "; ".join(verdict.message for verdict in verdicts)


def go_on(session: Session, campaign_id: int) -> list[str]:
    """Write a person's answer to the verdict that was told last, inside the caller's transaction.

    A verdict that nobody was told of is not overruled: so the command that answers can be killed
    and given again.

    Returns:
        The rules that are overruled; none where no verdict is open.
    """
    told = session.scalar(
        select(Event)
        .where(Event.campaign_id == campaign_id, Event.kind.in_(("run_ended", "run_resumed")))
        .order_by(Event.id.desc())
        .limit(1)
    )
    verdicts = told.payload.get("verdicts") if told is not None and told.kind == "run_ended" else ()
    verdicts = [v for v in verdicts or () if not _answered(session, campaign_id, v)]
    rules = [verdict["rule"] for verdict in verdicts]
    if rules:
        record(session, campaign_id, "run_resumed", rules=rules, overruled=verdicts)
    return rules


def open_question(session: Session, campaign_id: int) -> dict[str, Any] | None:
    """What a paused campaign asks: ``question``, ``answer``, ``verdicts``, ``time``; or None."""
    last = session.scalars(
        select(Event)
        .where(
            Event.campaign_id == campaign_id,
            Event.kind.in_(("run_ended", "run_paused", "run_resumed")),
        )
        .order_by(Event.id.desc())
        .limit(2)
    ).all()
    # a pause is followed by the end of its run, in one transaction
    for event in last:
        if event.kind == "run_paused":
            if all(_answered(session, campaign_id, v) for v in event.payload["verdicts"]):
                return None
            return {**event.payload, "time": event.time.isoformat()}
        if event.kind == "run_resumed" or event.payload.get("reason") != "paused":
            return None
    return None


def _recorded(session: Session, campaign_id: int, spec: Spec, metrics: Sequence[str]) -> Recorded:
    from loop.stopping import Batch, Recorded

    trials = records.trials_of(session, campaign_id)
    ended = sorted(
        ((t.ended, t.index, t) for t in trials if t.ended and t.status != "abandoned"),
        key=lambda item: item[:2],
    )
    # A cheaper fidelity brings nothing that counts, and cannot stall what is sought.
    count = counting(spec, [t for *_, t in ended])
    ended = [item for item, counts in zip(ended, count, strict=True) if counts]
    means, _ = records.outcomes([t for *_, t in ended], metrics)
    events = session.scalars(
        select(Event)
        .where(
            Event.campaign_id == campaign_id,
            Event.kind.in_(("trials_proposed", "run_resumed")),
        )
        .order_by(Event.id)
    ).all()
    known = {t.index: t for t in trials if t.status != "abandoned"}
    batches: list[Batch] = []
    answered: dict[str, float] = {}
    for event in events:
        at = event.time.astimezone(UTC).timestamp()
        if event.kind == "run_resumed":
            answered |= dict.fromkeys(event.payload["rules"], at)
            continue
        batch = [known[index] for index in event.payload["trials"] if index in known]
        if batch:
            done = all(trial.status in ("completed", *FAILED) for trial in batch)
            batches.append(Batch([_expected(t) for t in batch], done, at))
    times = [time.astimezone(UTC).timestamp() for time, *_ in ended]
    return Recorded([index for _, index, _ in ended], means, times, batches, answered)


def _expected(trial: Trial) -> float | None:
    """What a trial was expected to gain when it was proposed."""
    notes = trial.provenance.get("notes")
    gain = notes.get("expected_gain") if isinstance(notes, Mapping) else None
    return None if gain is None else float(gain)
