"""Campaigns made by hand: any history, without a generator or an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from sqlalchemy import select

from campaigns import Campaign
from campaigns.ingestion import keep_artifact, observe
from campaigns.spec import Spec
from campaigns.store.models import CampaignRow, GeneratorVersion, SurrogateFit, Trial
from campaigns.store.store import record

CARD = {
    "name": "crystals",
    "description": "A toy card.",
    "data": {
        "rows": 27000,
        "held_out_rows": 900,
        "sources": [{"file": "a.csv.gz", "citation": "Somebody 2013", "licence": "CC-BY-4.0"}],
    },
    "metrics": {
        "held_out": {"crystals": 900, "match_rate": 0.91, "match_rate_95": [0.89, 0.93]},
        "held_out_by_source": {"a.csv.gz": {"crystals": 900, "match_rate": 0.91}},
        "prior": {"samples": 1000, "draws_valid": 0.97, "sample_valid": 1.0},
    },
    "atomic_volumes": list(range(90)),
    "weights_sha256": "ab" * 32,
    "minutes": 61.5,
}


class Handmade:
    """A campaign whose trials a test writes itself.

    Args:
        folder: For its database.
        spec: The spec's data; `latent` axes need no generator.
    """

    def __init__(self, folder: Path, spec: Mapping[str, Any], text: str | None = None):
        self.campaign = Campaign.create(
            Spec.model_validate(spec), f"sqlite:///{folder / 'made.db'}", spec_text=text
        )
        self.units = self.campaign.spec.metric_units()

    def add(
        self,
        design: Mapping[str, Any],
        results: Mapping[str, Any] | None = None,
        *,
        status: str = "completed",
        predicted: Mapping[str, tuple[float, float]] | None = None,
        failure: str | None = None,
        artifacts: Mapping[str, str] | None = None,
        **told: Any,
    ) -> int:
        """Write one trial; its index. `told` is provenance: name, method, latent, ..."""
        provenance: dict[str, Any] = {
            "method": "prior" if predicted is None else "qLogNEHVI",
            "prediction": {
                m: {"mean": mean, "sd": sd, "unit": self.units[m]}
                for m, (mean, sd) in (predicted or {}).items()
            },
            "software": {"matloop": "0.1.0", "torch": "2.13.0"},
            "generators": {"crystal": {"name": "crystals", "version": "0123456789abcdef"}},
            **told,
        }
        with self.campaign.store.write() as session:
            row = session.scalars(select(CampaignRow)).one()
            count = len(session.scalars(select(Trial)).all())
            trial = Trial(
                campaign_id=row.id, index=count, status="candidate", attempt=0,
                design=dict(design), provenance=provenance,
            )  # fmt: skip
            session.add(trial)
            session.flush()
            trial.created += timedelta(seconds=10 * count)
            for metric, value in (results or {}).items():
                mean, sem = value if isinstance(value, tuple) else (value, None)
                observe(session, trial, metric, mean, sem, self.units[metric], "potential chgnet")
            for name, text in (artifacts or {}).items():
                keep_artifact(session, trial, name, text)
            if status != "candidate":
                trial.move(status, failure=failure)
            if trial.ended:
                trial.ended = trial.created + timedelta(seconds=5)
                evaluator = {"model": "chgnet:0.3.0", "packages": {"chgnet": "0.4.2"}}
                record(
                    session, row.id, f"trial_{status}", trial=count, seconds=12.5,
                    evaluator=evaluator, reason=failure,
                )  # fmt: skip
        return count

    def fit(self, **metrics: Mapping[str, Any]) -> None:
        """Write a fit of the surrogate with this report."""
        with self.campaign.store.write() as session:
            row = session.scalars(select(CampaignRow)).one()
            count = len(session.scalars(select(Trial)).all())
            session.add(
                SurrogateFit(campaign_id=row.id, trials=count, report=metrics, warm_start={})
            )

    def generator(self, card: Mapping[str, Any]) -> None:
        """Write the card of the generator that the trials name."""
        with self.campaign.store.write() as session:
            session.add(
                GeneratorVersion(
                    name="crystals", version="0123456789abcdef", parent=None, card=dict(card)
                )
            )


def rocksalt(cation: str, anion: str, length: float) -> Structure:
    """A primitive cell of rocksalt."""
    half = length / 2  # by hand: `Structure.from_spacegroup` takes a second
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Structure(lattice, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


CRYSTALS = {
    "campaign": "light-stiff",
    "space": {"crystal": {"latent": "crystals"}},
    "objectives": {
        "bulk_modulus": {"goal": "maximize", "unit": "GPa", "threshold": 20},
        "density": {"goal": "minimize", "unit": "g/cm^3", "threshold": 9},
    },
    "constraints": ["formation_energy <= -0.3 eV/atom"],
    "evaluate": {"with": "potential", "model": "chgnet"},
    "seed": 7,
}


@pytest.fixture
def handmade(tmp_path) -> Callable[..., Handmade]:
    """Make a campaign of a spec."""
    return lambda spec, text=None: Handmade(tmp_path, spec, text)


@pytest.fixture
def crystals(handmade) -> Handmade:
    """Twelve rocksalts: nine completed, one that violates the constraint, one failed, one open."""
    made = handmade(CRYSTALS)
    made.generator(CARD)
    rng = np.random.default_rng(0)
    cations, anions = ("Mg", "Ca", "Sr", "Ti", "Li", "Na"), ("O", "N")
    for n, (cation, anion) in enumerate((c, a) for c in cations for a in anions):
        structure = rocksalt(cation, anion, 4.2 + 0.1 * n)
        relaxed = rocksalt(cation, anion, 4.25 + 0.1 * n)
        modulus, density = 250.0 - 15 * n + 20 * rng.normal(), float(relaxed.density)
        status = {10: "failed", 11: "candidate"}.get(n, "completed")
        made.add(
            {"crystal": {"cif": structure.to(fmt="cif")}},
            {
                "bulk_modulus": (modulus, 1.5),
                "density": density,
                "formation_energy": -0.1 if n == 3 else -1.5,
            }
            if status == "completed"
            else None,
            status=status,
            failure="not relaxed after 300 steps" if status == "failed" else None,
            artifacts={"relaxed.cif": relaxed.to(fmt="cif")} if status == "completed" else None,
            predicted=None
            if n < 4
            else {
                "bulk_modulus": (modulus + 15 * rng.normal(), 15.0),
                "density": (density + 0.1 * rng.normal(), 0.1),
                "formation_energy": (-1.4, 0.2),
            },
            name=f"{structure.composition.reduced_formula} (Fm-3m, 2 atoms)",
            latent=rng.normal(size=6).tolist(),
            feasibility=0.9,
            notes={"origin": "prior", "p_constraints": 0.8},
        )
    good = {
        "n": 9, "loo_r2": 0.7, "loo_log_likelihood": -1.0, "noise": 3.0, "converged": True,
        "coverage": {"50": 0.5, "80": 0.8, "95": 1.0}, "informative": True,
    }  # fmt: skip
    bad = good | {"informative": False, "loo_r2": -0.2}
    for _ in range(2):
        made.fit(bulk_modulus=good, density=good, formation_energy=bad)
    return made
