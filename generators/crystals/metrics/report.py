"""All metrics of a generator, or of samples from elsewhere, in one report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from generators.base import Generator
from generators.crystals.metrics.distributions import (
    coverage_figures,
    distance_figures,
    guess_data_set,
)
from generators.crystals.metrics.figures import Figure, share
from generators.crystals.metrics.judge import Judge
from generators.crystals.metrics.novelty import novelty_figures
from generators.crystals.metrics.optimisation import (
    PERCENTILES,
    STARTS,
    head_of,
    success_figures,
)
from generators.crystals.metrics.properties import (
    Constraint,
    Unmeasured,
    encodable,
    heads,
    number,
    predict,
    property_of,
)
from generators.crystals.metrics.reading import Row
from generators.crystals.metrics.reconstruction import reconstruction_figures
from generators.crystals.metrics.stability import Potential, stability_figures
from generators.crystals.metrics.validity import both_valid, validity_figures

GROUPS = (
    "reconstruction",
    "validity",
    "coverage",
    "distances",
    "novelty",
    "stability",
    "optimisation",
    "review",
)
_LEAST_JUDGED = 10  # rows that a judge learns from at least
_JUDGED = 4000  # rows that a judge learns from at most


@dataclass
class Plan:
    """What to measure, and with what.

    Attributes:
        samples: What the samples' metrics are of; None stands for a draw without a valid design.
        generator: Their generator; None where they come from elsewhere.
        data: Rows to encode and to compare with.
        known: What novelty is judged by, and the hull made of.
        against: What `known` is, for a person.
        data_set: `perov5`, `carbon24` or `mp20`; default: guessed from `data`.
        only: Which of `GROUPS`.
        constraint: Of the efficiency.
        relax: Samples to relax.
        potential: Makes the potential; None: stability is not measured.
        columns: Columns of the data that heads of the generator predict, by the name of the head.
        labelled: Rows that the judge of optimised designs learns from; default: `data`.
        seed: Of the choice of samples to relax and of starts.
        workers: Processes.
    """

    samples: Sequence[Structure | None]
    generator: Generator | None = None
    data: Sequence[Row] = ()
    known: Sequence[Structure] = ()
    against: str = "the reference"
    data_set: str | None = None
    only: Sequence[str] = GROUPS
    constraint: Constraint | None = None
    relax: int = 100
    potential: Callable[[], Potential] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labelled: Sequence[Row] = ()
    seed: int = 0
    workers: int = 1


def evaluate(plan: Plan, note: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure what applies.

    Returns:
        `figures`: by name, each with `value`, `low`, `high` (95 %), `n`, `unit`, `note`, `group`
        and what is `published` for the same data set; `unmeasured`: group to reason; `data_set`;
        `seconds`: group to wall time.
    """
    real = [s for s in plan.samples if s is not None]
    rows = [r.structure for r in plan.data]
    data_set = plan.data_set or guess_data_set(rows or real)
    figures: dict[str, dict[str, Any]] = {}
    unmeasured: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for group in plan.only:
        note(f"measuring {group}")
        began = time.perf_counter()
        try:
            found = _MEASURES[group](plan, real, rows, data_set)
        except Unmeasured as reason:
            unmeasured[group] = str(reason)
            continue
        seconds[group] = round(time.perf_counter() - began, 1)
        for name, figure in found.items():
            figures[name] = {
                "group": group, **figure.as_dict(), "published": published(data_set, name)
            }  # fmt: skip
    return {
        "data_set": data_set,
        "figures": figures,
        "unmeasured": unmeasured,
        "seconds": seconds,
        "sources": _published()["sources"],
    }


@cache
def _published() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "published.json").read_text())
    return found


def published(data_set: str, metric: str) -> list[dict[str, Any]]:
    """What papers report of a metric on a data set: `model`, `value`, `source`."""
    return [
        {k: row[k] for k in ("model", "value", "source")}
        for row in _published()["rows"]
        if row["set"] == data_set and row["metric"] == metric
    ]


# One function for each group: plan, real samples, rows of the data, data set.


def _reconstruction(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    if plan.generator is None:
        raise Unmeasured("samples from elsewhere have no encoder")
    _need(rows, "--data names crystals to encode")
    return reconstruction_figures(plan.generator, rows, plan.workers)


def _validity(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    figures = validity_figures(plan.samples)
    if plan.generator is not None:
        n = len(plan.samples)
        began = time.perf_counter()
        draws = plan.generator.decode(plan.generator.prior(n, plan.seed), plan.seed)
        rate = n / (time.perf_counter() - began)
        figures["draws_valid"] = share(
            [d is not None for d in draws], "latent draws that decode, before any is drawn anew"
        )
        figures["decoded_per_second"] = Figure(rate, None, None, n, "1/s", "one process")
    return figures


def _coverage(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    _need(rows, "--data names crystals to compare with")
    return coverage_figures(plan.samples, rows, data_set, plan.workers)


def _distances(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    _need(rows, "--data names crystals to compare with")
    valid = [s for s, good in zip(real, both_valid(real), strict=True) if good]
    energies = None
    if plan.generator is not None and "formation_energy" in heads(plan.generator):
        name = "formation_energy"
        ours, theirs = predict(plan.generator, name, valid), predict(plan.generator, name, rows)
        energies = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    return distance_figures(valid, rows, energies)


def _novelty(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    return novelty_figures(real, plan.known, plan.against, plan.workers)


def _stability(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    if plan.potential is None:
        raise Unmeasured("no potential is given")
    order = np.random.default_rng(plan.seed).permutation(len(plan.samples))[: plan.relax]
    chosen = [plan.samples[int(i)] for i in order]
    return stability_figures(chosen, plan.known, plan.potential(), plan.workers)


def _optimisation(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    generator = plan.generator
    if generator is None:
        raise Unmeasured("samples from elsewhere have no latent space")
    _need(rows, "--data names crystals to start from, and their property")
    labelled = plan.labelled or plan.data
    head, column = next(
        (
            (name, column)
            for name, column in plan.columns.items()
            if labelled and column in labelled[0].columns and head_of(generator, name) is not None
        ),
        ("", ""),
    )
    if not head:
        raise Unmeasured("no column of the data is what a head of the generator predicts")
    source = np.random.default_rng(plan.seed)
    known = [(r.structure, number(r.columns[column])) for r in labelled]
    known = [(s, y) for s, y in known if np.isfinite(y)]
    if len(known) < _LEAST_JUDGED:
        what = f"{len(known)} rows of the data have a number in {column}"
        raise Unmeasured(f"{what}: a judge of designs learns from {_LEAST_JUDGED} at least")
    values = np.array([y for _, y in known])
    taken = source.permutation(len(known))[:_JUDGED]
    judge = Judge([known[int(i)][0] for i in taken], values[taken], column, plan.seed)
    order = source.permutation(len(rows))
    starts: list[Structure] = []
    for i in order:
        if len(starts) == STARTS:
            break
        if encodable(generator, rows[int(i)]):
            starts.append(rows[int(i)])
    if not starts:
        raise Unmeasured(f"{generator.name} can represent no crystal of the data")
    index = head_of(generator, head)
    assert index is not None
    return success_figures(
        generator, starts, index, judge, np.percentile(values, PERCENTILES), plan.seed
    )


def _review(
    plan: Plan, real: list[Structure], rows: list[Structure], data_set: str
) -> dict[str, Figure]:
    """Scope and efficiency, columns by which reviews of inverse design compare generators.

    Their third, reversibility, is the match rate.
    """
    symbols = {e for s in real for e in s.symbol_set}
    note = "different ones among the samples"
    figures = {"scope": Figure(float(len(symbols)), None, None, len(real), "elements", note)}
    constraint = plan.constraint
    able = plan.generator is not None and "formation_energy" in heads(plan.generator)
    if constraint is None and able:
        constraint = Constraint("formation_energy", "<", -0.5)
    if constraint is None:
        return figures
    met = constraint.met(property_of(plan.generator, constraint.name, real))
    met += [False] * (len(plan.samples) - len(real))
    note = f"samples with {constraint}"
    if rows:
        base = constraint.met(property_of(plan.generator, constraint.name, rows))
        note += f"; of the data {100 * float(np.mean(base)):.1f} %"
    figures["efficiency"] = share(met, note)
    return figures


_MEASURES = {
    "reconstruction": _reconstruction,
    "validity": _validity,
    "coverage": _coverage,
    "distances": _distances,
    "novelty": _novelty,
    "stability": _stability,
    "optimisation": _optimisation,
    "review": _review,
}


def _need(rows: Sequence[Structure], what: str) -> None:
    if not rows:
        raise Unmeasured(f"no data is given: {what}")
