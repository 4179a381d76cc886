"""What a person is told of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIGURES = {
    "reconstruction": "held-out designs that come back",
    "valid": "valid draws",
    "unique": "draws that differ",
    "new": "draws not examined yet",
}


def tuned(payload: Mapping[str, Any]) -> str:
    """That a new version is used."""
    learned = payload["learned_from"]
    failed = f", {learned['failed']} of them failed" if learned["failed"] else ""
    return (
        f"the generator of {payload['axis']} learnt from {learned['designs']} designs{failed} by "
        f"{payload['method']}: version {payload['version']}, from {payload['parent']}; "
        f"{figures(payload['before'], payload['after'])}"
    )


def kept(payload: Mapping[str, Any]) -> str:
    """That there is none."""
    return (
        f"the generator of {payload['axis']} stays version {payload['parent']}: "
        f"{payload['message']}"
    )


def figures(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Figures of a parent and of its child, in percent."""
    return ", ".join(
        f"{words} {100 * before[name]:.0f} % -> {100 * after[name]:.0f} %"
        for name, words in _FIGURES.items()
        if name in before and name in after
    )


def of_card(card: Mapping[str, Any]) -> str:
    """What a version's card says of its fine-tuning; empty of one that was not fine-tuned."""
    told = card.get("fine_tuning")
    if not told:
        return ""
    learned = told["learned_from"]
    return (
        f"from version {card['parent']}, by {told['method']}, on {learned['designs']} designs "
        f"({', '.join(learned['metrics'])}), in {told['minutes']:.1f} minutes; "
        f"{figures(told['before'], told['after'])}"
    )
