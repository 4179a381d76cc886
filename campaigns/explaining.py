"""Why a campaign proposed what it did, and what it has learnt: from its store, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from campaigns import records
from campaigns.errors import MatloopError, UsageError

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from campaigns.store.models import Trial


def explain(campaign: Campaign, trial: int | None = None) -> dict[str, Any]:
    """Explain proposals; for a whole campaign, say what it has learnt too.

    Args:
        campaign: May be running meanwhile.
        trial: One trial only; nothing is fitted then.

    Returns:
        As `Campaign.explain`.

    Raises:
        UsageError: There is no such trial.
        MatloopError: A generator cannot be loaded.
    """
    trials = campaign._trials()
    if trial is not None:
        asked = [t for t in trials if t.index == trial]
        if not asked:
            raise UsageError(f"there is no trial {trial}", where=campaign.name)
        return {"campaign": campaign.name, "trials": [_told(t, trials) for t in asked]}
    asked = [t for t in trials if t.status in ("candidate", "running")]
    if not asked and trials:
        last = trials[-1].provenance.get("seed")  # of a proposal, which all of its trials share
        asked = [t for t in trials if t.provenance.get("seed") == last]
    told = [_told(t, trials) for t in asked]
    return {"campaign": campaign.name, "trials": told, **learnt(campaign)}


def learnt(campaign: Campaign) -> dict[str, Any]:
    """What the results so far teach: ``learnt``, ``importances``, ``notes``; it is fitted anew.

    Raises:
        MatloopError: A generator cannot be loaded, or a design cannot be read.
    """
    from loop.fidelities import only_target
    from loop.learnt import review

    try:
        history, _, warm_start = campaign._history()
    except ValueError as error:
        raise MatloopError(
            "a design in the store cannot be read",
            where=campaign.name,
            why=str(error),
            unchanged="the campaign",
            hint="was it written with the generator that is installed now?",
        ) from error
    history, rows = only_target(campaign.problem, history)
    known = [t for t in campaign._trials() if t.status not in ("candidate", "running")]
    known = [known[i] for i in rows if i < len(known)]
    names = None
    if len(known) == len(history.designs):
        names = [f"{t.provenance.get('name') or 'a design'} (trial {t.index})" for t in known]
    found = review(campaign.problem, history, campaign.spec.seed, names, warm_start)
    return dict(records.plain(found.as_dict()))


def why(provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """The explanation that was stored with a trial, if there is one."""
    notes = provenance.get("notes")
    found = notes.get("why") if isinstance(notes, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else None


def why_text(provenance: Mapping[str, Any]) -> str:
    """Why a trial was proposed, in words."""
    found = why(provenance)
    if found is not None and found.get("text"):
        return str(found["text"])
    method = provenance.get("method")
    if method is None:
        return "Given by hand."
    if method == "prior":
        return "Drawn blindly from the prior: there was no model to ask."
    return f"Chosen by {method}; no explanation was stored with it."


def _told(trial: Trial, trials: Sequence[Trial]) -> dict[str, Any]:
    found, text = why(trial.provenance), why_text(trial.provenance)
    if found is not None and isinstance(near := found.get("nearest"), Mapping):
        # the store has the design's name; its trial is the one before this that is called so
        same = [t.index for t in trials if t.provenance.get("name") == near.get("name")]
        same = [index for index in same if index < trial.index]
        found["nearest"] = {**near, "trial": same[0] if len(same) == 1 else None}
        if len(same) == 1 and near.get("name"):
            text = text.replace(str(near["name"]), f"{near['name']} [trial {same[0]}]", 1)
    told = records.trial_dict(trial)
    return {
        **{key: told[key] for key in ("trial", "name", "status", "observations", "failure")},
        "method": trial.provenance.get("method"),
        "prediction": trial.provenance.get("prediction") or {},
        "text": text,
        "why": found,
    }
