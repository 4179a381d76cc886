"""Which elements a campaign tried, and what came of each, for the pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from campaigns.service.look_numbers import number
from campaigns.service.look_tables import goals
from campaigns.spec_axes import CompositionAxis

if TYPE_CHECKING:
    from campaigns.facts import Facts
    from campaigns.service.looks import Look

_FORMULA: Final = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d+)?)?")


def elements(look: Look) -> dict[str, Any]:
    """Of each element: in how many trials it was, how they ended, the mean of each metric."""
    import numpy as np

    facts = look.facts
    found: dict[str, dict[str, Any]] = {}
    members: dict[str, list[int]] = {}
    unread = 0
    for row, trial in enumerate(facts.trials):
        symbols = symbols_of(facts, trial)
        unread += not symbols
        for symbol in symbols:
            told = found.setdefault(
                symbol, {"tried": 0, "completed": 0, "failed": 0, "open": 0, "front": 0}
            )
            told["tried"] += 1
            status, kind = trial["status"], facts.kinds[row]
            told["completed"] += status == "completed"
            told["failed"] += kind == "failed"
            told["open"] += kind == "open"
            told["front"] += bool(facts.front[row]) if facts.several else kind == "front"
            members.setdefault(symbol, []).append(row)
    for symbol, rows in members.items():
        outcomes = facts.outcomes[rows]
        found[symbol]["mean"] = {
            m: number(np.nanmean(outcomes[:, j])) if np.isfinite(outcomes[:, j]).any() else None
            for j, m in enumerate(facts.metrics)
        }
    return {**goals(facts), "elements": found, "trials": len(facts), "without": unread}


def symbols_of(facts: Facts, trial: dict[str, Any]) -> set[str]:
    """The elements of a trial's design: of its crystal, its ingredients, or a pool's formula."""
    from campaigns.elements import SYMBOLS

    found: set[str] = set()
    for name, value in trial["design"].items():
        axis = facts.spec.space.get(name)
        if isinstance(axis, CompositionAxis):
            for part, amount in value.items():
                if isinstance(amount, int | float) and amount > 0:
                    found |= _elements(part)
        elif isinstance(value, dict) and "cif" in value:
            text = re.search(r"_chemical_formula_sum\s+'?([^'\n]+)", str(value["cif"]))
            found |= _elements((text[1] if text else "").replace(" ", ""))
        elif isinstance(value, dict):
            for column, one in value.items():
                if isinstance(one, str) and column.lower() in ("formula", "composition"):
                    found |= _elements(one)
    return found.intersection(SYMBOLS)


def _elements(formula: str) -> set[str]:
    plain = re.sub(r"[()\[\]\s.]", "", formula)
    parts = _FORMULA.findall(plain)
    return {symbol for symbol, _ in parts} if "".join(a + b for a, b in parts) else set()
