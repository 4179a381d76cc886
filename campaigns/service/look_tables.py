"""The tables behind the pages' pictures, from a campaign's facts: plain JSON, no unknown numbers.

An unknown number is None. A column of words is one of small numbers, which `codes` tells.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from campaigns.handout import flat_design
from campaigns.service.look_numbers import number, numbers, short
from campaigns.spec_axes import ChoiceAxis, CompositionAxis, RangeAxis

if TYPE_CHECKING:
    import numpy as np

    from campaigns.facts import Facts
    from campaigns.service.looks import Look

MOST_PARAMETERS: Final = 12
_BEST: Final = 10


def goals(facts: Facts) -> dict[str, Any]:
    """What is sought: objectives, constraints, metrics with their units, kinds of trials."""
    return {
        "campaign": facts.name,
        "several": facts.several,
        "metrics": [{"name": m, "unit": facts.units[m]} for m in facts.metrics],
        "objectives": [
            {
                "metric": o.metric, "unit": o.unit, "goal": o.goal, "target": o.target,
                "tolerance": o.tolerance, "threshold": o.threshold,
            }
            for o in facts.problem.objectives
        ],
        "constraints": [
            {"metric": c.metric, "op": c.op, "bound": c.bound, "unit": facts.units[c.metric]}
            for c in facts.problem.constraints
        ],
        "kinds": facts.kind_names,
    }  # fmt: skip


def front(look: Look) -> dict[str, Any]:
    """The front by its first objective; with one objective, the best ten."""
    import numpy as np

    from loop.front import reference_point, utilities

    facts = look.facts
    gains = utilities(facts.problem, facts.outcomes)[:, 0] if len(facts) else np.zeros(0)
    rows = np.flatnonzero(facts.front if facts.several else facts.usable)
    ranked = rows[np.argsort(-gains[rows], kind="stable")].tolist()
    shown = ranked if facts.several else ranked[:_BEST]
    corner, inferred = reference_point(facts.problem, facts.outcomes)
    signs = [1.0 if o.goal == "maximize" else -1.0 for o in facts.problem.objectives]
    return {
        **goals(facts),
        "front": [_row(facts, row) for row in shown],
        "counts": Counter(facts.kinds),
        "reference": {
            "values": [number(s * v) for s, v in zip(signs, corner.tolist(), strict=True)],
            "inferred": inferred,
        },
    }


def _row(facts: Facts, row: int) -> dict[str, Any]:
    trial = facts.trials[row]
    values = {}
    for j, metric in enumerate(facts.metrics):
        values[metric] = {
            "mean": number(facts.outcomes[row, j], None),
            "sem": number(facts.sem[row, j]),
            "predicted": number(facts.predicted[row, j]),
            "sd": number(facts.predicted_sd[row, j]),
        }
    return {
        "trial": trial["trial"],
        "name": trial["name"],
        "status": trial["status"],
        "kind": facts.kinds[row],
        "worth": bool(facts.worth[row]) if facts.several else True,
        "method": trial["provenance"].get("method"),
        "values": values,
        "params": flat_design(trial["design"]),
    }


def columns(look: Look) -> dict[str, Any]:
    """Every trial, a column for each thing known of it."""
    facts, space = look.facts, look.facts.spec.space
    told = [t["provenance"] for t in facts.trials]
    codes: dict[str, list[str]] = {}
    found: dict[str, list[Any]] = {
        "trial": [t["trial"] for t in facts.trials],
        "name": [short(t["name"]) for t in facts.trials],
        "acquisition": [number(p.get("acquisition"), 3) for p in told],
        "feasibility": [number(p.get("feasibility"), 2) for p in told],
        "round": rounds(facts),
    }
    for key, words in (
        ("status", [t["status"] for t in facts.trials]),
        ("kind", facts.kinds),
        ("method", [p.get("method") or "by hand" for p in told]),
    ):
        codes[key] = list(dict.fromkeys(words))
        at = {word: n for n, word in enumerate(codes[key])}
        found[key] = [at[word] for word in words]
    for j, metric in enumerate(facts.metrics):
        found[f"mean:{metric}"] = numbers(facts.outcomes[:, j])
        found[f"sem:{metric}"] = numbers(facts.sem[:, j], 2)
        found[f"predicted:{metric}"] = numbers(facts.predicted[:, j], 4)
        found[f"sd:{metric}"] = numbers(facts.predicted_sd[:, j], 2)
    names, values = parameters(facts)
    for name, column in zip(names, values, strict=True):
        found[f"param:{name}"] = [number(v, 4) if isinstance(v, float | int) else v for v in column]
    # what says nothing is not sent: a column of which nothing is known, numbers from 0 on, and
    # names that are the parameters once more
    empty = [k for k, column in found.items() if ":" in k and all(v is None for v in column)]
    if found["trial"] == list(range(len(facts))):
        empty.append("trial")
    if all(isinstance(axis, RangeAxis | ChoiceAxis) for axis in space.values()):
        empty.append("name")
    return {
        **goals(facts),
        "n": len(facts),
        "codes": codes,
        "parameters": names,
        "units": {n: getattr(space[n.partition(".")[0]], "unit", None) for n in names},
        "columns": {k: v for k, v in found.items() if k not in empty},
    }


def parameters(facts: Facts) -> tuple[list[str], list[list[Any]]]:
    """Names and values of the parameters that can be axes: numbers and choices."""
    names: list[str] = []
    for name, axis in facts.spec.space.items():
        if isinstance(axis, RangeAxis | ChoiceAxis):
            names.append(name)
        elif isinstance(axis, CompositionAxis):
            names += [f"{name}.{part}" for part in axis.composition]
    names = names[:MOST_PARAMETERS]
    flat = [flat_design(t["design"]) for t in facts.trials] if names else []
    return names, [[design.get(name) for design in flat] for name in names]


def rounds(facts: Facts) -> list[int]:
    """Of each trial, the number of the batch that it was proposed in, from 0."""
    found: list[int] = []
    known: dict[Any, int] = {}
    for trial in facts.trials:
        seed = trial["provenance"].get("seed")
        key = ("seed", seed) if seed is not None else ("by hand", trial["created"])
        found.append(known.setdefault(key, len(known)))
    return found


def latent(look: Look) -> dict[str, Any]:
    """Trials along the two directions that spread them most; and the prior, seen along the same.

    Where there is no latent space, numbers among the parameters take its place, each in units of
    its range. What is known of the trials is in `columns`, under the same numbers.
    """
    import numpy as np

    facts = look.facts
    rows, vectors = facts.latents
    projection, dimension = "latent", vectors.shape[1] if len(rows) else 0
    if dimension < 2:
        rows, vectors = _numeric(facts)
        projection, dimension = "parameters", vectors.shape[1]
    told: dict[str, Any] = {
        **goals(facts), "projection": projection, "dimension": dimension, "trials": [],
        "x": [], "y": [], "shares": None, "prior": None, "reason": "",
    }  # fmt: skip
    if dimension < 2:
        told["reason"] = "the space has no two directions to draw: see the parameters one by one"
        return told
    if len(rows) < 3:
        told["reason"] = f"a map needs three trials at least, and there are {len(rows)}"
        return told
    middle = vectors.mean(axis=0)
    _, stretch, axes = np.linalg.svd(vectors - middle, full_matrices=False)
    # a direction has two senses: one, always, so that a map does not flip as trials come in
    senses = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    axes = (axes * senses[:, None])[:2]
    shares = stretch[:2] ** 2 / max(float((stretch**2).sum()), 1e-300)
    places = (vectors - middle) @ axes.T
    told |= {
        "trials": [facts.trials[i]["trial"] for i in rows],
        "x": numbers(places[:, 0], 4),
        "y": numbers(places[:, 1], 4),
        "shares": [number(s, 3) for s in shares.tolist()],
    }
    if projection == "latent":
        centre = (-middle @ axes.T).tolist()
        # seen along two directions at right angles, a normal prior is one of two dimensions
        told["prior"] = {
            "x": number(centre[0]), "y": number(centre[1]),
            "radii": {str(p): round(math.sqrt(-2 * math.log(1 - p / 100)), 4) for p in (50, 90)},
        }  # fmt: skip
    return told


def _numeric(facts: Facts) -> tuple[list[int], np.ndarray]:
    import numpy as np

    columns = []
    for name, axis in facts.spec.space.items():
        if isinstance(axis, RangeAxis):
            columns.append((name, axis.range, axis.log))
        elif isinstance(axis, CompositionAxis):
            columns += [(f"{name}.{p}", (0.0, axis.total), False) for p in axis.composition]
    flat = [flat_design(t["design"]) for t in facts.trials]
    table = np.full((len(flat), len(columns)), np.nan)
    for j, (name, (low, high), log) in enumerate(columns):
        for i, design in enumerate(flat):
            value = design.get(name)
            if isinstance(value, int | float):
                ends = (math.log(low), math.log(high)) if log else (low, high)
                at = math.log(value) if log and value > 0 else value
                table[i, j] = (at - ends[0]) / (ends[1] - ends[0])
    shown = [i for i, t in enumerate(facts.trials) if t["status"] != "abandoned"]
    rows = [i for i in shown if np.isfinite(table[i]).all()]
    return rows, table[rows]


def curve(look: Look) -> dict[str, Any]:
    """How far the campaign had come after each trial that ended."""
    from loop.front import best_so_far, hypervolume_trace, reference_point

    facts = look.facts
    rows, all_rounds = facts.ended, rounds(facts)
    best = best_so_far(facts.problem, facts.outcomes[rows]) if rows else None
    _, computed = look.views.get("curve", (0, {}))
    told: dict[str, Any] = {
        **goals(facts),
        "trials": [facts.trials[i]["trial"] for i in rows],
        "kind": [facts.kinds[i] for i in rows],
        "ended": [facts.trials[i]["ended"] for i in rows],
        "round": [all_rounds[i] for i in rows],
        "best": {
            o.metric: [] if best is None else numbers(best[:, k])
            for k, o in enumerate(facts.problem.objectives)
        },
        "hypervolume": None, "hypervolume_note": "", "random": computed.get("random"),
    }  # fmt: skip
    if facts.several and facts.usable.any() and not facts.problem.contour:
        corner, inferred = reference_point(facts.problem, facts.outcomes)
        told["hypervolume_note"] = "; ".join(inferred)
        if len(facts.problem.objectives) == 2:
            trace = hypervolume_trace(facts.problem, facts.outcomes[rows], corner)
            told["hypervolume"] = numbers(trace)
        else:  # of more objectives the engine works it out
            told["hypervolume"] = computed.get("hypervolume")
    return told


def model(look: Look) -> dict[str, Any]:
    """Predictions against results, and what the engine learnt from the last fit."""
    from campaigns.calibration import LEVELS, track_records
    from loop.calibration import WORDS

    facts = look.facts
    records = []
    for record in track_records(facts):
        verdict = record.verdict()
        records.append(
            {
                "metric": record.metric,
                "unit": facts.units[record.metric],
                "trials": [facts.trials[i]["trial"] for i in record.rows],
                "names": [short(facts.trials[i]["name"]) for i in record.rows],
                "result": numbers(record.result),
                "sem": numbers(record.result_sem, 3),
                "predicted": numbers(record.predicted),
                "sd": numbers(record.sd, 3),
                "mean_error": number(record.mean_error),
                "guess_error": number(record.guess_error),
                "covered": {str(level): record.covered(level) for level in LEVELS},
                "of": len(record),
                "verdict": verdict,
                "verdict_words": WORDS[verdict],
            }
        )
    at, computed = look.views.get("model", (None, {}))
    return {
        **goals(facts),
        "records": records,
        "fit": facts.fits[-1] if facts.fits else None,
        "learnt": computed.get("learnt", []),
        "importances": computed.get("importances", {}),
        "notes": computed.get("notes", []),
        "computed_at": at,
    }
