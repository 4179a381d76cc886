"""Rows of the store as plain Python: dicts for JSON, arrays for `loop`, DataFrames for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from campaigns.store.models import Event, Observation, Trial
from campaigns.strict import plain as plain

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def trials_of(session: Session, campaign_id: int) -> list[Trial]:
    """All trials of a campaign in the order of their indices, with their observations."""
    return list(
        session.scalars(
            select(Trial)
            .where(Trial.campaign_id == campaign_id)
            .order_by(Trial.index)
            .options(selectinload(Trial.observations))
        )
    )


def current(trial: Trial) -> dict[str, Observation]:
    """The observations of a trial that no other supersedes, by metric."""
    superseded = {o.supersedes_id for o in trial.observations}
    return {o.metric: o for o in trial.observations if o.id not in superseded}


def outcomes(trials: Sequence[Trial], metrics: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What was measured of n trials: means and standard errors, n x m each, nan = not known.

    A trial that is not completed has none, whatever was measured of it.
    """
    import numpy as np

    means = np.full((len(trials), len(metrics)), np.nan)
    sems = np.full((len(trials), len(metrics)), np.nan)
    for row, trial in enumerate(trials):
        if trial.status != "completed":
            continue
        measured = current(trial)
        for column, metric in enumerate(metrics):
            if metric in measured:
                means[row, column] = measured[metric].mean
                sem = measured[metric].sem
                sems[row, column] = np.nan if sem is None else sem
    return means, sems


def trial_dict(trial: Trial) -> dict[str, Any]:
    """A trial as strict JSON, with its provenance and its current observations."""
    return {
        "trial": trial.index,
        "status": trial.status,
        "name": trial.provenance.get("name"),
        "design": trial.design,
        "realised": trial.realised,
        "fidelity": trial.fidelity,
        "provenance": trial.provenance,
        "observations": {
            metric: {"mean": o.mean, "sem": o.sem, "unit": o.unit, "source": o.source}
            for metric, o in current(trial).items()
        },
        "failure": trial.failure,
        "attempt": trial.attempt,
        "created": trial.created.isoformat(),
        "started": trial.started.isoformat() if trial.started else None,
        "ended": trial.ended.isoformat() if trial.ended else None,
    }


def event_dict(event: Event) -> dict[str, Any]:
    """An event as strict JSON, without the whole trials that some keep for `matloop replay`."""
    return {
        "id": event.id,
        "time": event.time.isoformat(),
        "kind": event.kind,
        "payload": {k: v for k, v in event.payload.items() if k != "content"},
    }


def trials_frame(trials: Sequence[Trial], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a trial, indexed by ``trial``.

    Columns: status, name, fidelity, method, acquisition, feasibility, seed, attempt, failure,
        created, started, ended, design
    (JSON); then for each metric its current mean under its own name (nan = not measured),
    ``<metric>_sem``, and what was predicted before: ``<metric>_predicted`` and
    ``<metric>_predicted_sd``.
    """
    import pandas as pd

    means, sems = outcomes(trials, metrics)
    rows = []
    for trial, mean, sem in zip(trials, means, sems, strict=True):
        told = trial.provenance
        row = {
            "trial": trial.index,
            "status": trial.status,
            "name": told.get("name"),
            "fidelity": trial.fidelity,
            "method": told.get("method"),
            "acquisition": _number(told.get("acquisition")),
            "feasibility": _number(told.get("feasibility")),
            "seed": told.get("seed"),
            "attempt": trial.attempt,
            "failure": trial.failure,
            "created": trial.created,
            "started": trial.started,
            "ended": trial.ended,
            "design": trial.design,
        }
        predicted = told.get("prediction") or {}
        for column, metric in enumerate(metrics):
            expected = predicted.get(metric) or {}
            row[metric] = mean[column]
            row[f"{metric}_sem"] = sem[column]
            row[f"{metric}_predicted"] = _number(expected.get("mean"))
            row[f"{metric}_predicted_sd"] = _number(expected.get("sd"))
        rows.append(row)
    fixed = [
        "trial", "status", "name", "fidelity", "method", "acquisition", "feasibility", "seed",
        "attempt", "failure", "created", "started", "ended", "design",
    ]  # fmt: skip
    endings = ("", "_sem", "_predicted", "_predicted_sd")
    columns = fixed + [metric + ending for metric in metrics for ending in endings]
    frame = pd.DataFrame(rows, columns=columns)
    for time in ("created", "started", "ended"):
        frame[time] = pd.to_datetime(frame[time], utc=True)
    return frame.set_index("trial")


def observations_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row an observation, corrected ones too, in the order in which they were written.

    Columns: id, trial, metric, mean, sem (nan = not known), unit, fidelity, source, time,
        supersedes (id of the
    observation it corrects, or missing), superseded (whether another corrects it).
    """
    import pandas as pd

    superseded = {o.supersedes_id for trial in trials for o in trial.observations}
    rows = [
        {
            "id": o.id,
            "trial": trial.index,
            "metric": o.metric,
            "mean": o.mean,
            "sem": _number(o.sem),
            "unit": o.unit,
            "fidelity": o.fidelity,
            "source": o.source,
            "time": o.time,
            "supersedes": o.supersedes_id,
            "superseded": o.id in superseded,
        }
        for trial in trials
        for o in trial.observations
    ]
    columns = [
        "id", "trial", "metric", "mean", "sem", "unit", "fidelity", "source", "time",
        "supersedes", "superseded",
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns).sort_values("id", ignore_index=True)
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    frame["superseded"] = frame["superseded"].astype(bool)
    return frame.astype({"supersedes": "Int64"})


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
