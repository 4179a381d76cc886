"""The campaigns that the pages are looked at with: one that was really run, crystals, ugly states.

Also a command: `python tests/dashboards/page_campaigns.py FOLDER` writes the database for a person.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from campaigns import Campaign
from campaigns.ingestion import keep_artifact, observe
from campaigns.spec import Spec
from campaigns.store.models import Observation, SurrogateFit, Trial
from campaigns.store.store import record

CERAMIC = """\
campaign: ceramic
space:
  temperature: {range: [900, 1500], unit: K}
  time: {range: [1, 48], unit: hour, log: true}
  dopant: {range: [0, 0.2]}
  atmosphere: {choice: [air, argon, hydrogen]}
objectives:
  hardness: {goal: maximize, unit: GPa, threshold: 8}
  cost: {goal: minimize, unit: dimensionless, threshold: 60}
constraints:
  - porosity <= 25 percent
evaluate: {with: lab}
approve: true
budget: {trials: 40, batch: 4}
stop: {stalled_after: 6, then: ask}
seed: 3
"""

PEROVSKITES = """\
campaign: perovskites
space:
  crystal: {latent: crystals}
objectives:
  bulk_modulus: {goal: maximize, unit: GPa, threshold: 60}
  density: {goal: minimize, unit: g/cm^3, threshold: 9}
constraints:
  - formation_energy <= -0.3 eV/atom
screen: {elements: {exclude: [Pb, Cd, Hg, Tl]}, charge_neutral: true}
evaluate: {with: lab}
approve: true
budget: {trials: 60, batch: 4}
"""


def one_axis(name: str, objectives: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The spec of an ugly state."""
    return {
        "campaign": name,
        "space": {"x": {"range": [0, 1]}, "y": {"range": [0, 1]}},
        "objectives": dict(objectives),
        "evaluate": {"with": "lab"},
        "budget": {"trials": 20, "batch": 2},
        **more,
    }


def make(url: str, *, big: int = 0, ceramic_rounds: int = 4) -> None:
    """Fill a database.

    Args:
        url: Of the database.
        big: Candidates of a campaign `big`; 0 = no such campaign.
        ceramic_rounds: Batches of four that the campaign `ceramic` proposes and takes in.
    """
    if ceramic_rounds:
        ceramic(url, ceramic_rounds)
    perovskites(url)
    ugly(url)
    if big:
        many(url, big)


def measured(design: Mapping[str, Any], rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """A furnace: hotter and longer is harder up to a point, and dearer."""
    t = (design["temperature"] - 900) / 600
    long = math.log(design["time"]) / math.log(48)
    gas = {"air": 0.0, "argon": 0.8, "hydrogen": 1.4}[design["atmosphere"]]
    hard = 6 + 9 * t * (1.25 - 0.55 * t) + 2.2 * long + 30 * design["dopant"] * (1 - t) + gas
    cost = 10 + 28 * t + 22 * long + 90 * design["dopant"] + 6 * gas
    pores = 42 - 28 * t - 10 * long + 50 * design["dopant"]
    return {
        "hardness": (hard + 0.25 * rng.normal(), 0.25),
        "cost": (cost + 0.5 * rng.normal(), 0.5),
        "porosity": (max(0.0, pores + rng.normal()), 1.0),
    }


def ceramic(url: str, rounds: int) -> Campaign:
    """A campaign that really proposed, and took in what a furnace gave."""
    campaign = _campaign(url, CERAMIC)
    rng = np.random.default_rng(1)
    for turn in range(rounds):
        new = [t["trial"] for t in campaign.propose(4)]
        with campaign.store.write() as session:
            for trial in _rows(session, campaign):
                if trial.index not in new:
                    continue
                if (turn, trial.index % 4) == (1, 2):
                    trial.move("failed", failure="the pellet broke when it was pressed")
                    record(
                        session, trial.campaign_id, "trial_failed", trial=trial.index, attempt=1,
                        how="failed", reason=trial.failure, worker="furnace 1",
                    )  # fmt: skip
                    continue
                values = measured(trial.design, rng)
                for metric, (mean, sem) in values.items():
                    unit = campaign.spec.metric_units()[metric]
                    observe(session, trial, metric, mean, sem, unit, "worker furnace 1")
                trial.move("completed")
                record(
                    session, trial.campaign_id, "trial_completed", trial=trial.index, attempt=1,
                    worker="furnace 1", seconds=5400.0,
                    measurements={m: {"mean": v, "sem": s} for m, (v, s) in values.items()},
                )  # fmt: skip
    campaign.propose(4)
    campaign.close()
    return campaign


def perovskites(url: str) -> Campaign:
    """Crystals with a latent space, none of them computed: lengths and moduli are sketched."""
    campaign = _campaign(url, PEROVSKITES)
    rng = np.random.default_rng(0)
    designs = [
        (a, b, x)
        for a, b in itertools.product(("Ca", "Sr", "Ba", "La"), ("Ti", "Zr", "Al", "Mn"))
        for x in ("O",)
    ]
    with campaign.store.write() as session:
        for n, (a, b, x) in enumerate(designs):
            crystal = perovskite(a, b, x, 3.75 + 0.05 * (n % 5) + 0.04 * ("CaSrBaLa".index(a) // 2))
            relaxed = crystal.copy()
            relaxed.scale_lattice(crystal.volume * 1.021)
            modulus = 110 + 60 * math.sin(n) + 8 * rng.normal()
            values = {
                "bulk_modulus": (modulus, 4.0),
                "density": (float(relaxed.density), None),
                "formation_energy": (-0.1 if n == 3 else -2.0 - 0.05 * n, None),
            }
            status = {9: "failed", 13: "candidate", 14: "candidate", 15: "running"}.get(
                n, "completed"
            )
            trial = _add(
                session, campaign, n, {"crystal": {"cif": crystal.to(fmt="cif")}}, status,
                values if status == "completed" else {},
                predicted=None if n < 4 else {
                    "bulk_modulus": (modulus + 14 * rng.normal(), 14.0),
                    "density": (values["density"][0] + 0.2 * rng.normal(), 0.2),
                    "formation_energy": (-2.0, 0.3),
                },
                name=f"{crystal.composition.reduced_formula} (Pm-3m, 5 atoms)",
                latent=[round(float(v), 4) for v in rng.normal(size=6)],
                failure="the cell did not relax within 300 steps" if status == "failed" else None,
            )  # fmt: skip
            if status == "completed":
                keep_artifact(session, trial, "relaxed.cif", relaxed.to(fmt="cif"))
                keep_artifact(session, trial, "log.txt", "BFGS: converged after 41 steps\n")
            if status == "running":
                trial.lease_token, trial.lease_worker = 1, "cluster node 7"
                trial.lease_seconds, trial.lease_progress = 3600.0, 0.4
                trial.lease_note = "relaxing, step 120"
                trial.lease_expires = datetime.now(UTC) + timedelta(hours=1)
    _fits(campaign)
    campaign.close()
    return campaign


def ugly(url: str) -> None:
    """No trial, one, all failed, one objective, four objectives."""
    two = {
        "gain": {"goal": "maximize", "unit": "dimensionless"},
        "loss": {"goal": "minimize", "unit": "W"},
    }
    _campaign(url, one_axis("no-trials", two)).close()
    rng = np.random.default_rng(2)
    single = _campaign(url, one_axis("one-trial", two))
    with single.store.write() as session:
        _add(session, single, 0, {"x": 0.5, "y": 0.25}, "completed",
             {"gain": (1.0, None), "loss": (2.0, None)})  # fmt: skip
    single.close()
    failed = _campaign(url, one_axis("all-failed", two))
    with failed.store.write() as session:
        for n in range(6):
            _add(session, failed, n, {"x": n / 6, "y": 0.5}, "failed", {},
                 failure="<b>the oven</b> did not heat")  # fmt: skip
    failed.close()
    one = _campaign(
        url,
        one_axis("one-objective", {"gain": {"goal": {"target": 1.4, "within": 0.1}, "unit": "eV"}}),
    )
    with one.store.write() as session:
        for n in range(9):
            value = float(1 + 0.6 * math.sin(2.3 * n))
            _add(session, one, n, {"x": n / 9, "y": 0.5}, "completed", {"gain": (value, 0.05)},
                 predicted={"gain": (value + 0.1 * rng.normal(), 0.1)} if n > 3 else None,
            )  # fmt: skip
    _fits(one)
    one.close()
    goals = {
        k: {"goal": g, "unit": "J"}
        for k, g in zip("abcd", ("maximize", "minimize") * 2, strict=True)
    }
    four = _campaign(url, one_axis("four-objectives", goals))
    with four.store.write() as session:
        for n in range(14):
            x, y = rng.uniform(size=2)
            values = {"a": x, "b": x * y, "c": 1 - x, "d": (x - y) ** 2}
            _add(session, four, n, {"x": float(x), "y": float(y)}, "completed",
                 {k: (float(v), None) for k, v in values.items()})  # fmt: skip
    four.close()


def many(url: str, count: int) -> None:
    """So many candidates, each with a prediction; every fiftieth was measured."""
    two = {
        "gain": {"goal": "maximize", "unit": "dimensionless"},
        "loss": {"goal": "minimize", "unit": "W"},
    }
    spec = one_axis("big", two, budget={"trials": 100_000, "batch": 4})
    campaign = _campaign(url, spec)
    rng = np.random.default_rng(4)
    xy = rng.uniform(size=(count, 2))
    now = datetime.now(UTC)
    with campaign.store.write() as session:
        row = campaign._row.id
        trials, observed = [], []
        for n, (x, y) in enumerate(xy):
            gain, loss = float(x + 0.3 * math.sin(9 * y)), float(x**2 + y)
            done = n % 50 == 0
            trials.append(
                {
                    "campaign_id": row, "index": n, "attempt": 0, "lease_token": 0, "lost": 0,
                    "held": False, "rev": 1, "created": now,
                    "status": "completed" if done else "candidate",
                    "ended": now if done else None,
                    "design": {"x": float(x), "y": float(y)},
                    "provenance": {
                        "name": f"x {x:.3f}, y {y:.3f}", "method": "LogEHVI", "seed": n // 4,
                        "acquisition": float(rng.normal()),
                        "prediction": {
                            "gain": {"mean": gain, "sd": 0.1, "unit": "dimensionless"},
                            "loss": {"mean": loss, "sd": 0.2, "unit": "W"},
                        },
                    },
                }
            )  # fmt: skip
            if done:
                observed += [(n, "gain", gain, "dimensionless"), (n, "loss", loss, "W")]
        session.execute(Trial.__table__.insert(), trials)
        ids = {t.index: t.id for t in _rows(session, campaign) if t.status == "completed"}
        session.execute(
            Observation.__table__.insert(),
            [
                {
                    "trial_id": ids[n],
                    "metric": m,
                    "mean": v,
                    "unit": u,
                    "source": "made",
                    "time": now,
                }
                for n, m, v, u in observed
            ],
        )
        record(session, row, "trials_proposed", trials=list(range(4)), methods=["LogEHVI"])
    campaign.close()


def perovskite(a: str, b: str, x: str, length: float) -> Any:
    """The cubic perovskite ABX3."""
    from pymatgen.core import Lattice, Structure

    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(length), [a, b, x, x, x], places)


def _campaign(url: str, spec: str | Mapping[str, Any]) -> Campaign:
    if isinstance(spec, str):
        import yaml

        return Campaign.create(Spec.model_validate(yaml.safe_load(spec)), url, spec_text=spec)
    return Campaign.create(Spec.model_validate(spec), url)


def _rows(session: Any, campaign: Campaign) -> list[Trial]:
    from campaigns.records import trials_of

    return trials_of(session, campaign._row.id)


def _add(
    session: Any, campaign: Campaign, index: int, design: Mapping[str, Any], status: str,
    values: Mapping[str, tuple[float, float | None]], *,
    predicted: Mapping[str, tuple[float, float]] | None = None, failure: str | None = None,
    **told: Any,
) -> Trial:  # fmt: skip
    units = campaign.spec.metric_units()
    why = {"text": "Its prediction is uncertain, and it may be better than any before.",
           "kind": "exploration", "uncertainty_share": 0.7}  # fmt: skip
    provenance: dict[str, Any] = {
        "method": "prior" if predicted is None else "LogEHVI",
        "acquisition": None if predicted is None else -1.0 - 0.1 * index,
        "feasibility": 0.9,
        "seed": index // 4,
        "prediction": {
            m: {"mean": mean, "sd": sd, "unit": units[m]}
            for m, (mean, sd) in (predicted or {}).items()
        },
        "notes": {} if predicted is None else {"why": why, "p_constraints": 0.85},
        "software": {"matloop": "0.1.0", "torch": "2.13.0"},
        **told,
    }
    trial = Trial(
        campaign_id=campaign._row.id, index=index, status="candidate", attempt=0,
        design=dict(design), provenance=provenance,
    )  # fmt: skip
    trial.created = datetime.now(UTC) - timedelta(hours=6) + timedelta(minutes=10 * index)
    session.add(trial)
    session.flush()
    if index % 4 == 0:
        record(session, trial.campaign_id, "trials_proposed", trials=list(range(index, index + 4)),
               methods=[provenance["method"]], seed=index // 4, notes=[])  # fmt: skip
    for metric, (mean, sem) in values.items():
        observe(session, trial, metric, mean, sem, units[metric], "worker furnace 1")
    if status != "candidate":
        trial.move(status, failure=failure)
    if trial.ended:
        trial.started, trial.ended = trial.created, trial.created + timedelta(minutes=9)
        record(session, trial.campaign_id, f"trial_{status}", trial=index, seconds=540.0,
               **({"reason": failure} if failure else {}))  # fmt: skip
    return trial


def _fits(campaign: Campaign) -> None:
    good = {
        "n": 9, "loo_r2": 0.7, "loo_log_likelihood": -1.0, "noise": 3.0, "converged": True,
        "coverage": {"50": 0.5, "80": 0.8, "95": 1.0}, "informative": True,
    }  # fmt: skip
    with campaign.store.write() as session:
        for n, r2 in ((4, 0.2), (8, 0.55), (12, 0.7)):
            session.add(
                SurrogateFit(
                    campaign_id=campaign._row.id, trials=n, warm_start={},
                    report={m: good | {"loo_r2": r2, "n": n} for m in campaign.spec.metric_units()},
                )
            )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Write the database into a folder."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    make(f"sqlite:///{folder / 'matloop.db'}", big=10_000)


if __name__ == "__main__":
    main(sys.argv[1:])
