"""Take results into the store: all or nothing, and the same content once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import realised, records, units
from campaigns.errors import InputErrors, Problem
from campaigns.results_columns import REALISED
from campaigns.store.models import FAILED, Artifact, Event, IngestedFile, Observation, Trial
from campaigns.store.store import record

if TYPE_CHECKING:
    from campaigns.results_file import Reading
    from campaigns.spec import Spec

_MEDIA_TYPES: Final = {
    ".cif": "chemical/x-cif",
    ".json": "application/json",
    ".csv": "text/csv",
}

UNCHANGED: Final = "the campaign: nothing was taken in"


@dataclass
class Summary:
    """What an ingestion changed, or would have with ``dry_run``.

    Attributes:
        source: The file's name.
        added: Observations of something not measured before.
        corrected: Observations that supersede another of a different value.
        repeated: Readings the store had already.
        realised: Trials of which it is known now how a parameter really was.
        completed: Trials that are completed now and were not before.
        failed: Trials that are failed now and were not before.
        already_ingested: The very same content was the last taken in; nothing was done.
        dry_run: Nothing was written.
    """

    source: str
    added: int = 0
    corrected: int = 0
    repeated: int = 0
    realised: list[int] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    already_ingested: bool = False
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


def content_key(readings: Sequence[Reading]) -> str:
    """The hash of what readings say, whatever file, order, row or unit they stand in."""
    return hashlib.sha256("\n".join(sorted(r.key for r in readings)).encode()).hexdigest()


def already_in(session: Session, campaign_id: int, key: str) -> bool:
    """Whether this content is the last that was taken in.

    Content before the last may have been corrected since; taken in again, it corrects the other.
    """
    last = session.scalar(
        select(Event.payload)
        .where(Event.campaign_id == campaign_id, Event.kind == "results_ingested")
        .order_by(Event.id.desc())
        .limit(1)
    )
    return last is not None and last["sha256"] == key


def observe(
    session: Session,
    trial: Trial,
    metric: str,
    mean: float,
    sem: float | None,
    unit: str,
    source: str,
    *,
    raw: tuple[float, str] | None = None,
    external_id: str | None = None,
) -> str:
    """Write one observation unless the store has it.

    Args:
        session: Of the transaction.
        trial: What was measured.
        metric: Of it.
        mean: In `unit`.
        sem: The standard error of the mean, in `unit`; None = not known.
        unit: The campaign's.
        source: Who says so.
        raw: The value and the unit as they were told, where that was another unit.
        external_id: By which the source knows it.

    Returns:
        ``added``, ``corrected`` (it supersedes another value) or ``repeated`` (nothing was
        written).
    """
    before = records.current(trial).get(metric)
    if (
        before is not None
        and before.unit == unit
        and _same(before.mean, mean)
        and _same(before.sem, sem)
    ):
        return "repeated"
    trial.observations.append(
        Observation(
            metric=metric, mean=mean, sem=sem, unit=unit, source=source, fidelity=trial.fidelity,
            supersedes_id=before.id if before else None, external_id=external_id,
            **({} if raw is None or raw[1] == unit else {"raw_value": raw[0], "raw_unit": raw[1]}),
        )
    )  # fmt: skip
    session.flush()
    return "corrected" if before else "added"


def keep_artifact(session: Session, trial: Trial, name: str, text: str) -> None:
    """Keep a text that an evaluation left, unless the trial has it."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    if any((a.name, a.sha256) == (name, digest) for a in trial.artifacts):
        return
    media_type = _MEDIA_TYPES.get(PurePath(name).suffix, "text/plain")
    trial.artifacts.append(Artifact(name=name, media_type=media_type, text=text, sha256=digest))


def take_in(
    session: Session,
    campaign_id: int,
    readings: Sequence[Reading],
    spec: Spec,
    name: str,
    key: str,
    *,
    dry_run: bool = False,
) -> Summary:
    """Write readings, the trials' new statuses and the events, inside the caller's transaction.

    Args:
        session: Of the transaction.
        campaign_id: The campaign.
        readings: What was measured.
        spec: The campaign's.
        name: The file's name, the source of readings that name none.
        key: `content_key` of the readings.
        dry_run: Said in the summary; the caller rolls back.

    Raises:
        InputErrors: Readings that cannot be taken in; all are named.
    """
    trials = {trial.index: trial for trial in records.trials_of(session, campaign_id)}
    metric_units = spec.metric_units()
    made = _check(readings, trials, spec, name)
    summary = Summary(source=name, dry_run=dry_run)
    touched: dict[int, dict[str, list[float]]] = {}
    for reading in readings:
        trial = trials[reading.trial]
        if reading.fidelity is not None and reading.fidelity != trial.fidelity:
            # It was tried at another fidelity than was proposed: that is the trial's, then.
            record(
                session, campaign_id, "trial_fidelity", trial=trial.index,
                proposed=trial.fidelity, tried=reading.fidelity, source=name,
            )  # fmt: skip
            trial.fidelity = reading.fidelity
        if reading.mean is None:
            if trial.status == reading.status:
                summary.repeated += 1
                continue
            trial.move(reading.status, failure=reading.reason or "no reason was given")
            summary.failed.append(trial.index)
            record(
                session, campaign_id, "trial_failed", trial=trial.index, attempt=trial.attempt,
                source=name, reason=trial.failure, how=reading.status,
            )  # fmt: skip
            continue
        unit = metric_units[reading.metric]
        mean = units.convert(reading.mean, reading.unit, unit)
        sem = None if reading.sem is None else units.convert_spread(reading.sem, reading.unit, unit)
        done = observe(
            session, trial, reading.metric, mean, sem, unit, reading.source or name,
            raw=reading.raw or (reading.mean, reading.unit),
        )  # fmt: skip
        setattr(summary, done, getattr(summary, done) + 1)
        if done != "repeated":
            touched.setdefault(trial.index, {})[reading.metric] = list(reading.repeats)
        if reading.cif is not None:
            keep_artifact(session, trial, "measured.cif", reading.cif)
    for index, metrics in touched.items():
        trial = trials[index]
        kind = "trial_corrected"
        if trial.status != "completed":
            trial.move("completed")
            summary.completed.append(index)
            kind = "trial_completed"
        measured = records.current(trial)
        record(
            session, campaign_id, kind, trial=index, source=name, attempt=trial.attempt,
            measurements={
                m: {"mean": measured[m].mean, "sem": measured[m].sem, "unit": measured[m].unit}
                | ({} if measured[m].raw_unit is None
                   else {"raw_value": measured[m].raw_value, "raw_unit": measured[m].raw_unit})
                | ({"repeats": repeats} if repeats else {})
                for m, repeats in metrics.items()
            },
        )  # fmt: skip
    for index, told in made.items():
        trial = trials[index]
        after = {**(trial.realised or {}), **told}
        if after != (trial.realised or {}):
            trial.realised = after
            summary.realised.append(index)
            record(session, campaign_id, "trial_realised", trial=index, source=name, realised=told)
    this = (IngestedFile.campaign_id == campaign_id, IngestedFile.sha256 == key)
    if session.scalar(select(IngestedFile.id).where(*this)) is None:
        session.add(IngestedFile(campaign_id=campaign_id, sha256=key, name=name))
    record(
        session, campaign_id, "results_ingested", source=name, sha256=key,
        added=summary.added, corrected=summary.corrected, repeated=summary.repeated,
    )  # fmt: skip
    return summary


def _check(
    readings: Sequence[Reading],
    trials: Mapping[int, Trial],
    spec: Spec,
    name: str,
) -> dict[int, dict[str, dict[str, Any]]]:
    """Refuse what contradicts the store; the reader of the file saw to the rest.

    Returns:
        Parameters as they really were, by trial.
    """
    problems: list[Problem] = []
    metric_units = spec.metric_units()
    made: dict[int, dict[str, dict[str, Any]]] = {}
    if not readings:
        problems.append(Problem(name, "it holds no results", "one row a trial"))
    answers: dict[int, set[str]] = {}
    for reading in readings:
        where = f"{name}, row {reading.row}, trial {reading.trial}"
        trial = trials.get(reading.trial)
        answers.setdefault(reading.trial, set()).add(reading.status)
        if trial is None:
            problems.append(Problem(where, f"there is no trial {reading.trial}"))
        elif trial.status == "abandoned":
            problems.append(Problem(where, "the trial is abandoned", "leave its row out"))
        elif reading.status in FAILED and trial.status == "completed":
            problems.append(
                Problem(where, "the trial is completed: it cannot fail any more",
                        "correct its values, or give it up in Python: "
                        f"Campaign.abandon({reading.trial}, reason)")
            )  # fmt: skip
        elif _contradicts(reading, trial):
            what = f"it was measured at {trial.fidelity or 'no fidelity'}, not {reading.fidelity}"
            hint = "another fidelity of the same design is another trial: propose it"
            problems.append(Problem(where, what, hint))
        if reading.mean is not None:
            problems += _check_value(reading, reading.mean, metric_units, where)
        elif reading.status not in FAILED:
            problems.append(Problem(where, "it is completed, and yet it has no value"))
        if reading.realised and reading.trial not in made:
            made[reading.trial], wrong = realised.read(spec, reading.realised)
            problems += [Problem(f"{where}, {p.where}{REALISED}", p.what) for p in wrong]
    for index, said in answers.items():
        if len(said) > 1:
            problems.append(
                Problem(f"{name}, trial {index}", "it is both completed and failed", "keep one")
            )
    if problems:
        raise InputErrors(problems, name, UNCHANGED)
    return made


def _contradicts(reading: Reading, trial: Trial) -> bool:
    """Whether a reading is of another fidelity than what the store has of its trial."""
    if reading.fidelity is None or reading.fidelity == trial.fidelity:
        return False
    return bool(trial.observations) or trial.status in FAILED


def _check_value(
    reading: Reading, mean: float, metric_units: Mapping[str, str], where: str
) -> list[Problem]:
    from loop.evaluators.base import LARGEST

    if reading.metric not in metric_units:
        known = ", ".join(metric_units)
        return [Problem(where, f"the spec has no metric {reading.metric!r}", f"it has {known}")]
    if not math.isfinite(mean):
        return [Problem(where, f"{reading.metric} is {mean}, not a finite number")]
    if abs(mean) > LARGEST:
        return [Problem(where, f"{reading.metric} is {mean}, which cannot be", "is a digit lost?")]
    if reading.sem is not None and not (math.isfinite(reading.sem) and reading.sem >= 0):
        return [Problem(where, f"the standard error {reading.sem} of {reading.metric} cannot be")]
    if not units.compatible(reading.unit, metric_units[reading.metric]):
        wanted = metric_units[reading.metric]
        return [Problem(where, f"{reading.metric} is in {reading.unit}", f"give it in {wanted}")]
    return []


def _same(a: float | None, b: float | None) -> bool:
    """Whether two numbers are the same but for what a conversion of units leaves."""
    return a == b if a is None or b is None else math.isclose(a, b, rel_tol=1e-12)
