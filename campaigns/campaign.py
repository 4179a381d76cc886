"""The campaign: the one class with a memory. Everything it knows is in its store.

It hands plain values to `loop`, which proposes and judges, and writes what comes back. Every method
may be killed at any instant and called again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from campaigns import __version__, fidelities, preferences, records, tuning
from campaigns.errors import MatloopError, UsageError
from campaigns.ingestion import Summary, already_in, content_key, take_in
from campaigns.stopping import granted_in, open_question, spent
from campaigns.store import Store
from campaigns.store.models import (
    FAILED,
    STATUSES,
    Artifact,
    CampaignRow,
    Event,
    GeneratorVersion,
    SurrogateFit,
    Trial,
    utc_now,
)
from campaigns.store.store import begin_campaign, record, strict_json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from campaigns.results_file import Reading
    from campaigns.spec import Spec
    from loop.fidelities import Left
    from loop.problem import Problem
    from loop.proposal import Candidate, History, Proposal

EventListener = Callable[[dict[str, Any]], None]

_SOFTWARE = ("torch", "botorch", "gpytorch", "numpy", "scipy", "pymatgen", "smact")


class Campaign:
    """One design problem pursued under a budget.

    Make one with `create`, `open` or `create_or_open`.

    Attributes:
        name: Its name, unique in its database.
        spec: What it seeks.
        store: Its memory.
    """

    def __init__(self, store: Store, row: CampaignRow):
        from campaigns.spec import Spec

        self.store = store
        self.name = row.name
        try:
            self.spec = Spec.model_validate(row.spec)
        except ValidationError as error:
            raise MatloopError(
                f"the spec of campaign {row.name!r} cannot be read",
                where=store.where,
                why="; ".join(e["msg"] for e in error.errors()[:3]),
                unchanged="the whole database",
                hint="open it with the matloop that wrote it, or a later one",
            ) from error
        self._row = row
        self._listener: EventListener | None = None

    def __repr__(self) -> str:
        return f"Campaign({self.name!r}, db={self.store.where!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from campaigns.notebook import summary_html

        return summary_html(self)

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store's connections; SQLite holds none between calls."""
        self.store.close()

    # Making and opening

    @classmethod
    def create(
        cls, spec: Spec | str | Path, db: str | None = None, *, spec_text: str | None = None
    ) -> Campaign:
        """Begin a campaign.

        Args:
            spec: The spec, or the path of its file.
            db: The database; default: ``MATLOOP_DB``, or ``matloop.db`` in this folder.
            spec_text: The spec as it was written, kept for the record.

        Raises:
            InputErrors: The spec file has errors.
            UsageError: The database has a campaign of this name.
            MatloopError: The database cannot be used.
        """
        return cls._make(spec, db, spec_text, may_exist=False)

    @classmethod
    def create_or_open(
        cls,
        spec: Spec | str | Path,
        db: str | None = None,
        *,
        spec_text: str | None = None,
        seed: int | None = None,
    ) -> Campaign:
        """Begin a campaign, or go on with the one of this name.

        The spec may have changed in ``budget``, ``stop`` and ``evaluate``; in ``space`` and in the
        ``constraints`` on parameters, as far as the trials there are can be kept; and the file of a
        generator may have moved. The store takes the new ones, and an event says what became of
        the trials.

        Args:
            spec: The spec, or the path of its file.
            db: As `create`.
            spec_text: As `create`.
            seed: In place of the spec's. Without it, a campaign that was begun with another seed
                than its spec's goes on with that.

        Raises:
            UsageError: The campaign of this name seeks something else.
            InputErrors, MatloopError: As `create`.
        """
        return cls._make(spec, db, spec_text, may_exist=True, seed=seed)

    @classmethod
    def open(cls, name: str, db: str | None = None) -> Campaign:
        """Open a campaign.

        Raises:
            UsageError: There is no such database, or no such campaign in it.
            MatloopError: The database cannot be used.
        """
        store = Store(db, create=False)
        with store.read() as session:
            names = session.scalars(select(CampaignRow.name).order_by(CampaignRow.id)).all()
            row = None
            if name in names:  # so that no text which a database cannot take gets there
                row = session.scalar(select(CampaignRow).where(CampaignRow.name == name))
        if row is None:
            raise UsageError(
                f"there is no campaign {name!r}",
                where=store.where,
                why=f"it has {', '.join(names)}" if names else "it has no campaign yet",
                hint="start one with `matloop run SPEC`, or name another database with --db",
            )
        return cls(store, row)

    @staticmethod
    def names(db: str | None = None) -> list[str]:
        """The names of the campaigns in a database, oldest first.

        Raises:
            UsageError: There is no such database.
            MatloopError: The database cannot be used.
        """
        store = Store(db, create=False)
        with store.read() as session:
            names = session.scalars(select(CampaignRow.name).order_by(CampaignRow.id)).all()
        store.close()
        return list(names)

    @classmethod
    def _make(
        cls,
        spec: Spec | str | Path,
        db: str | None,
        spec_text: str | None,
        may_exist: bool,
        seed: int | None = None,
    ) -> Campaign:
        from campaigns.spec import load_spec, written_seed

        if isinstance(spec, str | Path):
            if spec_text is None and Path(spec).is_file():
                spec_text = Path(spec).read_text(encoding="utf-8", errors="replace")
            spec = load_spec(Path(spec))
        stored = json.loads(strict_json(spec.model_dump(mode="json")))
        text = spec_text or strict_json(stored)
        if seed is not None:
            stored["seed"] = seed
        store = Store(db)
        with store.write() as session:
            row = session.scalar(select(CampaignRow).where(CampaignRow.name == spec.campaign))
            if row is None:
                row = begin_campaign(session, stored, text)
            elif not may_exist:
                raise UsageError(
                    f"there is a campaign {row.name!r} already",
                    where=store.where,
                    unchanged="that campaign",
                    hint="`matloop run SPEC` goes on with it; or give the spec another name",
                )
            elif seed is None and written_seed(row.spec_text) == stored["seed"]:
                stored["seed"] = row.spec["seed"]  # it was begun with another than its file's
            _take_changes(session, row, stored, text, store.where)
        return cls(store, row)

    @cached_property
    def problem(self) -> Problem:
        """What the spec asks for, as `loop` reads it; loads the generators, in what they learnt."""
        return tuning.spec_now(self).problem()

    @cached_property
    def goals(self) -> Problem:
        """The problem with a stand-in for every generator: to judge outcomes, none need be loaded.

        So a campaign can be looked at where its generator is no more.
        """
        return self.spec.goals()

    # Proposing

    def propose(self, n: int | None = None) -> list[dict[str, Any]]:
        """Propose new trials; they are stored as candidates.

        The seed comes from the spec's seed and the number of trials, so on one machine the same
        history gives the same proposal bit for bit.

        Args:
            n: How many; default: the spec's batch. Fewer where the budget ends.

        Returns:
            The new trials, as `trial` gives them.

        Raises:
            UsageError: The budget is spent, or n is not positive.
            MatloopError: Another matloop runs the campaign, or no new design was found.
        """
        n = self.spec.budget.batch if n is None else n
        if n < 1:
            raise UsageError("propose one trial or more", where=f"-n {n}")
        with self.store.runner_lock(self._row):
            left = self._left()
            assert left.trials is not None
            if left.trials < 1 or not fidelities.pays(self.spec, left):
                key = "trials" if left.trials < 1 else "cost"
                more = f"raise budget.{key} in the spec and `matloop run` it"
                if self.spec.budget.then == "ask":
                    more = f"`matloop run {self.name}` asks, and then with --go-on grants more"
                raise UsageError(
                    spent(self.spec, left, self.granted()),
                    where=self.name,
                    unchanged="the campaign",
                    hint=more,
                )
            new = self._propose(min(n, left.trials), left)
        with self.store.read() as session:
            trials = records.trials_of(session, self._row.id)
            return [records.trial_dict(t) for t in trials if t.index in new]

    def _propose(
        self,
        n: int,
        left: Left | None = None,
        computing: Callable[[], Any] | None = None,
        also: Callable[[Session, list[int]], None] | None = None,
        near: Sequence[int] = (),
    ) -> list[int]:
        """Propose and store n trials; the caller holds the runner's lock.

        Args:
            n: How many.
            left: Of the budget.
            computing: Makes a context for the long computation, in which the runner lets itself be
                interrupted.
            also: Called with the new trials in the transaction that stores them.
            near: Trials in whose neighbourhood to look, this once; none = everywhere.
        """
        from contextlib import nullcontext

        from campaigns.transfer import with_earlier
        from loop.proposal import ProposalSettings, propose

        settings = ProposalSettings(strategy=self.spec.acquisition)
        tuning.tune_if_due(self, computing)
        history, count, warm_start = self._history()
        seed = derived_seed(self.spec.seed, count)
        with computing() if computing else nullcontext():
            history, notes = with_earlier(self, history)
            problem, where = self._near(near)
            notes += where
            proposal = propose(
                problem, history, n, seed, warm_start=warm_start, settings=settings, left=left
            )
        proposal = replace(proposal, notes=[*notes, *proposal.notes])
        if not proposal.candidates:
            raise NoDesign(
                "no new design was found",
                where=self.name,
                why="; ".join(proposal.notes) or "every design that was drawn was screened out",
                unchanged="the campaign",
                hint="loosen `screen`, widen the space, or stop here",
            )
        return self._keep(proposal, count, seed, also)

    def _near(self, trials: Sequence[int]) -> tuple[Problem, list[str]]:
        """The problem in a box around trials, and a note that says so."""
        if not trials:
            return self.problem, []
        from loop.near import near

        with self.store.read() as session:
            rows = records.trials_of(session, self._row.id)
            designs = [self.design(row.design) for row in rows if row.index in trials]
        told = ", ".join(str(t) for t in sorted(trials)[:8]) + (", ..." if len(trials) > 8 else "")
        try:
            problem, words = near(self.problem, designs)
        except ValueError as error:
            raise UsageError(
                "nothing can be proposed there", where=f"near trials {told}",
                why=" ".join(str(error).split()), unchanged="the campaign",
            ) from error  # fmt: skip
        return problem, [f"asked for near trials {told}: {words}"]

    def _history(self) -> tuple[History, int, dict[str, Any] | None]:
        """All that was tried, at every fidelity; the number of trials; a warm start."""
        from campaigns.realised import made
        from loop.proposal import History

        with self.store.read() as session:
            trials = records.trials_of(session, self._row.id)
            fit = session.scalar(
                select(SurrogateFit)
                .where(SurrogateFit.campaign_id == self._row.id)
                .order_by(SurrogateFit.id.desc())
                .limit(1)
            )
            # A surrogate of another space has other features: the next one begins anew.
            warm_start = fit.warm_start if fit and self._since_changed(session, fit) else None
            ranked = preferences.standing(session, self._row.id)
        # Abandoned trials stay in, with nothing measured: so that they are not proposed again.
        known = [t for t in trials if t.status not in ("candidate", "running")]
        pending = [t for t in trials if t.status in ("candidate", "running")]
        import numpy as np

        means, sems = records.outcomes(known, self.problem.metrics)
        designs = [self.design(t.design) for t in known]
        history = History(
            designs=designs,
            realised={
                row: made(self.spec, designs[row], t.realised)
                for row, t in enumerate(known)
                if t.realised
            },
            source=np.array([fidelities.source_of(self.spec, t) for t in known], dtype=int),
            pending_source=np.array(
                [fidelities.source_of(self.spec, t) for t in pending], dtype=int
            ),
            outcomes=means,
            sem=sems,
            failed=np.array([t.status in FAILED for t in known], dtype=bool),
            pending=[self.design(t.design) for t in pending],
            members=[_member(t) for t in known],
            errors=_errors(known, self.problem.metrics, means),
            preferences=preferences.rows(ranked, known, self._of_goals(known)),
        )
        return history, len(trials), warm_start

    def design(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's design as the space reads it now, from what the store has of it.

        Axes that were added after the trial have their defaults, axes that were removed are left
        out.

        Raises:
            MatloopError: The space cannot read it.
        """
        from campaigns.spec_changes import in_space

        try:
            return self.problem.space.from_json(in_space(self.spec, stored))
        except ValueError as error:
            raise MatloopError(
                "a design in the store cannot be read",
                where=f"{self.name} in {self.store.where}",
                why=" ".join(str(error).split()),
                unchanged="the campaign",
            ) from error

    def _since_changed(self, session: Session, fit: SurrogateFit) -> bool:
        """Whether a surrogate was fitted since the space or a generator changed last."""
        for time, kind, payload in session.execute(
            select(Event.time, Event.kind, Event.payload)
            .where(Event.campaign_id == self._row.id)
            .where(Event.kind.in_(("spec_changed", tuning.TUNED)))
            .order_by(Event.id.desc())
        ):
            changed = {"space", "constraints", "fine_tune"} & set(payload.get("changed", ()))
            if kind == tuning.TUNED or changed:
                return bool(fit.created > time)
        return True

    def _keep(
        self,
        proposal: Proposal,
        count: int,
        seed: int,
        also: Callable[[Session, list[int]], None] | None = None,
    ) -> list[int]:
        """Store a proposal: the fit, the trials and the event, in one transaction."""
        versions = _generators(self.problem, tuning.ancestors(self))
        software = software_versions()
        new = []
        with self._change() as session:
            present = session.scalar(select(func.count()).where(Trial.campaign_id == self._row.id))
            if present != count:
                raise Changed(
                    "the campaign changed while a proposal was made",
                    where=self.name,
                    why=f"it had {count} trials and now has {present}",
                    unchanged="the campaign; the proposal is dropped",
                    hint="run the same command again",
                )
            fit_id = None
            if proposal.surrogate_report is not None:
                fit = SurrogateFit(
                    campaign_id=self._row.id, trials=count,
                    report=records.plain(proposal.surrogate_report),
                    warm_start=records.plain(proposal.warm_start or {}),
                )  # fmt: skip
                session.add(fit)
                session.flush()
                fit_id = fit.id
            generator_id = _keep_generators(session, versions)
            content = []
            for offset, candidate in enumerate(proposal.candidates):
                trial = Trial(
                    campaign_id=self._row.id,
                    index=count + offset,
                    status="candidate",
                    attempt=0,
                    design=records.plain(self.problem.space.to_json(candidate.design)),
                    fidelity=candidate.fidelity,
                    provenance=self._provenance(candidate, versions, seed, software),
                    generator_version_id=generator_id,
                    surrogate_fit_id=fit_id,
                )
                session.add(trial)
                new.append(trial.index)
                content.append(
                    {
                        "trial": trial.index, "design": trial.design, "fidelity": trial.fidelity,
                        "provenance": trial.provenance,
                    }
                )  # fmt: skip
            record(
                session, self._row.id, "trials_proposed", trials=new, seed=seed,
                methods=sorted({c.method for c in proposal.candidates}),
                surrogate_fit=fit_id, notes=list(proposal.notes), content=content,
            )  # fmt: skip
            if also is not None:
                also(session, new)
        return new

    def _provenance(
        self, candidate: Candidate, versions: dict[str, dict[str, Any]], seed: int, software: dict
    ) -> dict[str, Any]:
        units = self.spec.metric_units()
        provenance: dict[str, Any] = records.plain(
            {
                "name": self.problem.space.describe(candidate.design),
                "method": candidate.method,
                "acquisition": candidate.acquisition,
                "prediction": {
                    metric: {"mean": mean, "sd": sd, "unit": units[metric]}
                    for metric, (mean, sd) in candidate.prediction.items()
                },
                "feasibility": candidate.feasibility,
                "latent": candidate.latent,
                "notes": candidate.notes,
                "seed": seed,
                "generators": {
                    axis: {
                        key: version[key] for key in ("name", "version", "from") if key in version
                    }
                    for axis, version in versions.items()
                },
                "software": software,
            }
        )
        return provenance

    # Taking results in

    def ingest(self, source: str | Path | Sequence[Reading], *, dry_run: bool = False) -> Summary:
        """Take results in: all of them or, where one is wrong, none.

        The same content twice is once. A value that differs from the one the store has supersedes
        it.

        Args:
            source: A CSV or JSON file, or readings.
            dry_run: Check and count, and change nothing.

        Returns:
            What changed.

        Raises:
            InputErrors: The results have errors; all are named.
            MatloopError: The database cannot be used.
        """
        with self.store.read() as session:
            trials = session.scalars(select(Trial).where(Trial.campaign_id == self._row.id)).all()
        units = self.spec.metric_units()
        if isinstance(source, str | Path):
            from campaigns.handout import known_columns
            from campaigns.results_file import read_results

            name = "".join(c if c.isprintable() else "?" for c in Path(source).name)
            # by the readings, not the bytes: the same table saved with other line ends is the same
            designs = [(t.index, t.provenance.get("name"), t.design) for t in trials]
            readings = read_results(
                Path(source), trials={t.index for t in trials}, units=units,
                known=known_columns(self.spec, designs), fidelities=tuple(self.spec.fidelities),
            )  # fmt: skip
        else:
            name, readings = "readings", list(source)
        key = content_key(readings)
        with self._change(keep=not dry_run) as session:
            if already_in(session, self._row.id, key):
                return Summary(source=name, already_ingested=True, dry_run=dry_run)
            return take_in(session, self._row.id, readings, self.spec, name, key, dry_run=dry_run)

    def abandon(self, trial: int, reason: str) -> None:
        """Give a trial up: it counts for nothing any more, and is not proposed again.

        Raises:
            UsageError: There is no such trial, or it is abandoned already.
        """
        with self._change() as session:
            row = session.scalar(
                select(Trial).where(Trial.campaign_id == self._row.id, Trial.index == trial)
            )
            if row is None or row.status == "abandoned":
                raise UsageError(
                    f"trial {trial} cannot be abandoned",
                    where=self.name,
                    why="there is no such trial" if row is None else "it is abandoned already",
                    unchanged="the campaign",
                )
            row.move("abandoned", failure=reason)
            record(session, self._row.id, "trial_abandoned", trial=trial, reason=reason)

    # Running

    def run(
        self,
        budget: int | None = None,
        on_event: EventListener | None = None,
        max_new: int | None = None,
        go_on: bool = False,
    ) -> dict[str, Any]:
        """Propose, evaluate in parallel, take in and refit, until the budget or a stop rule.

        Killed at any instant and called again, it goes on: results that finished meanwhile are
        taken in, evaluations that did not are made again.

        Args:
            budget: Trials in all (completed, failed, running and candidates); default: the spec's.
            on_event: Called with every event once it is in the store (as `events` gives them), and
                with a few that only narrate (``id`` None).
            max_new: Propose at most so many trials in this call.
            go_on: Overrule the stop rules' verdict that was told last: it is found again only
                from what comes after. Where none was told, this changes nothing.

        Returns:
            `status`, with ``reason`` (budget, target_met, stalled, no_gain, paused, time, max_new,
            exhausted or lab) and ``message``, why it ended. Where it is ``paused``, ``question``
            says what is asked, and how to answer.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the store is consistent, run again to go on.
            MatloopError: Another matloop runs the campaign, evaluation after evaluation fails, or
                the database or disk does.
        """
        from campaigns.runner import Runner

        with self.store.runner_lock(self._row):
            self._listener = on_event
            try:
                reason, message = Runner(self, budget, max_new, go_on).run()
            finally:
                self._listener = None
        return {**self.status(budget), "reason": reason, "message": message}

    # Reading

    def trials(self) -> pd.DataFrame:
        """One row a trial; see `records.trials_frame` for the columns."""
        return records.trials_frame(self._trials(), self._metrics)

    def observations(self) -> pd.DataFrame:
        """One row an observation, superseded ones too: see `records.observations_frame`."""
        return records.observations_frame(self._trials())

    def front(self) -> pd.DataFrame:
        """The rows of `trials` that are feasible and that no other beats in every objective."""
        from loop.front import pareto_mask

        trials = self._trials()
        means = fidelities.outcomes_that_count(self.spec, trials, self.goals.metrics)
        return records.trials_frame(trials, self._metrics)[pareto_mask(self.goals, means)]

    def trial(self, index: int) -> dict[str, Any]:
        """All that is known of one trial, as JSON.

        Raises:
            UsageError: There is no such trial.
        """
        for row in self._trials():
            if row.index == index:
                return records.trial_dict(row)
        raise UsageError(f"there is no trial {index}", where=self.name)

    def explain(self, trial: int | None = None) -> dict[str, Any]:
        """Why designs were proposed, and what was learnt, as JSON; fits what was observed anew.

        Args:
            trial: Only why this trial was proposed; nothing is fitted then.

        Returns:
            campaign, trials (those that wait, else the last that were proposed: trial, name,
            status, method, prediction, observations, failure, text, why: see
            `loop.explain.Explanation`, None where none was stored); and without ``trial`` learnt
            (topic, sentence, data each), importances (by metric: shares, totals, samples), notes.

        Raises:
            UsageError: There is no such trial.
            MatloopError: A generator cannot be loaded.
        """
        from campaigns.explaining import explain

        return explain(self, trial)

    def artifacts(self, trial: int) -> dict[str, str]:
        """The texts that a trial's evaluation left, by name (``relaxed.cif``)."""
        with self.store.read() as session:
            found = session.execute(
                select(Artifact.name, Artifact.text)
                .join(Trial)
                .where(Trial.campaign_id == self._row.id, Trial.index == trial)
                .order_by(Artifact.id)
            )
            return {name: text for name, text in found if text is not None}

    def fits(self) -> list[dict[str, Any]]:
        """The surrogate's fits, oldest first: number of trials, time, report."""
        with self.store.read() as session:
            rows = session.scalars(
                select(SurrogateFit)
                .where(SurrogateFit.campaign_id == self._row.id)
                .order_by(SurrogateFit.id)
            ).all()
        return [
            {"trials": r.trials, "created": r.created.isoformat(), "report": r.report} for r in rows
        ]

    def generators(self) -> list[dict[str, Any]]:
        """The generator versions that this campaign's trials came from, with their model cards."""
        with self.store.read() as session:
            names = {
                (told["name"], told["version"])
                for provenance in session.scalars(
                    select(Trial.provenance).where(Trial.campaign_id == self._row.id)
                )
                for told in provenance.get("generators", {}).values()
            }
            rows = session.scalars(select(GeneratorVersion).order_by(GeneratorVersion.id)).all()
        return [
            {"name": r.name, "version": r.version, "parent": r.parent, "card": r.card}
            for r in rows
            if (r.name, r.version) in names
        ]

    def events(self, after: int = 0, last: int | None = None) -> list[dict[str, Any]]:
        """What happened, oldest first: ``id``, ``time``, ``kind``, ``payload``.

        Args:
            after: Only events with a larger id.
            last: Only so many, the newest.
        """
        query = (
            select(Event)
            .where(Event.campaign_id == self._row.id, Event.id > after)
            .order_by(Event.id.desc())
            .limit(last)
        )
        with self.store.read() as session:
            return [records.event_dict(e) for e in reversed(session.scalars(query).all())]

    def status(self, budget: int | None = None, *, cheap: bool = False) -> dict[str, Any]:
        """Where the campaign stands, as JSON.

        Args:
            budget: The budget to report against; default: the spec's.
            cheap: Without what must import torch: the hypervolume of three objectives or more.

        Returns:
            campaign, database, created, budget, counts (by status), counted (trials that the budget
            counts), cost (spent, budget, unit; None without fidelities), best (by metric of an
            objective: value, unit, goal, trial; only feasible
            trials), hypervolume (None for one objective or before the first feasible trial), front
            (trials), question (of a campaign that paused to ask whether to go on: question, answer,
            verdicts, time; else None), preferences (as `preferences`), last_events.
        """
        from loop.front import counts, hypervolume, pareto_mask, utilities

        trials = self._trials()
        means = fidelities.outcomes_that_count(self.spec, trials, self.goals.metrics)
        usable = counts(self.goals, means)
        gains = utilities(self.goals, means)
        best = {}
        for column, objective in enumerate(self.goals.objectives):
            if usable.any():
                at = max(usable.nonzero()[0], key=lambda row: gains[row, column])
                best[objective.metric] = {
                    "value": float(means[at, self.goals.metrics.index(objective.metric)]),
                    "unit": objective.unit,
                    "goal": objective.goal,
                    "trial": trials[at].index,
                }
        several = len(self.goals.objectives) > 1 and bool(usable.any())
        several &= not cheap or len(self.goals.objectives) == 2
        paid = self.granted(budget)
        by_status = {status: sum(t.status == status for t in trials) for status in STATUSES}
        return {
            "campaign": self.name,
            "database": self.store.where,
            "created": self._row.created.isoformat(),
            "budget": paid["trials"],
            "counts": by_status,
            "counted": sum(map(fidelities.budgeted, trials)),
            "cost": fidelities.cost_status(self.spec, trials, paid["cost"]),
            "best": best,
            "hypervolume": float(hypervolume(self.goals, means)) if several else None,
            "front": [trials[row].index for row in pareto_mask(self.goals, means).nonzero()[0]],
            "question": self._question(),
            "preferences": self.preferences(),
            "last_events": self.events(last=5),
        }  # fmt: skip

    def preferences(self) -> dict[str, Any]:
        """What a person said of pairs of trials: ``count``, ``used``, ``pairs``.

        ``used`` is whether there are enough to say what is proposed; each of ``pairs`` has the
        ``better`` and the ``worse`` trial.
        """
        with self.store.read() as session:
            return preferences.status(session, self)

    def prefer(self, better: int, worse: int) -> dict[str, Any]:
        """Keep a person's word that one completed trial is better than another.

        The same word twice is once; the opposite of an earlier one takes its place, and both stay
        in the store.

        Returns:
            ``changed``: whether it was new; ``replaced``: whether it contradicts an earlier one.

        Raises:
            UsageError: The two cannot be compared.
        """
        return preferences.prefer(self, better, worse)

    def classified(
        self, designs: Sequence[Mapping[str, Any]] | None = None, certainty: float = 0.95
    ) -> pd.DataFrame:
        """On which side of the levels designs are: the result of a campaign for a contour.

        Args:
            designs: As `trial` gives them; default: all there are where they can be counted and are
                few, else a sample of the space.
            certainty: Probability from which on a side is said to be known.

        Returns:
            A row a design: ``name``, ``design`` (JSON), and for each level ``METRIC`` (above,
            below or unsure) and ``METRIC_above``, the probability of being above it.

        Raises:
            UsageError: No objective is a level, or nothing was measured yet.
            MatloopError: A design cannot be read.
        """
        import pandas as pd

        from loop.level import classified

        history, *_ = self._history()
        asked = None if designs is None else [self.design(d) for d in designs]
        try:
            found = classified(
                self.problem, history, asked, certainty=certainty, seed=self.spec.seed
            )
        except ValueError as error:
            raise UsageError("nothing can be classified", where=self.name, why=str(error)) from None
        space = self.problem.space
        columns: dict[str, Any] = {
            "name": [space.describe(d) for d in found.designs],
            "design": [records.plain(space.to_json(d)) for d in found.designs],
        }
        for contour in found.contours:
            columns[contour.metric] = contour.sides
            columns[f"{contour.metric}_above"] = contour.above
        return pd.DataFrame(columns)

    def _of_goals(self, trials: Sequence[Trial]) -> np.ndarray:
        """What counts as measured of the objectives of n trials: n x k."""
        metrics = [objective.metric for objective in self.goals.objectives]
        return fidelities.outcomes_that_count(self.spec, trials, metrics)

    def _question(self) -> dict[str, Any] | None:
        with self.store.read() as session:
            return open_question(session, self._row.id)

    @property
    def _metrics(self) -> tuple[str, ...]:
        return tuple(self.spec.metric_units())

    def _trials(self) -> list[Trial]:
        with self.store.read() as session:
            return records.trials_of(session, self._row.id)

    def _left(self, budget: int | None = None) -> Left:
        """What is left of the budget; of trials, of this one in place of the spec's."""
        paid = self.granted(budget)
        return fidelities.left(self.spec, self._trials(), paid["trials"], paid["cost"])

    def granted(self, budget: int | None = None) -> dict[str, Any]:
        """What the budget grants, with what a person granted beyond it: ``trials`` and ``cost``.

        Args:
            budget: Trials in all, in place of those.
        """
        with self.store.read() as session:
            told = self.spec.budget.model_dump(mode="json")
            more = granted_in(session, self._row.id, told) or {}
        trials = more.get("trials", self.spec.budget.trials) if budget is None else budget
        return {"trials": trials, "cost": more.get("cost", self.spec.cost_budget)}

    def _counted(self) -> int:
        return sum(map(fidelities.budgeted, self._trials()))

    # Telling

    @contextmanager
    def _change(self, keep: bool = True) -> Iterator[Session]:
        """One transaction; its events are told to the listener once they are in the store."""
        with self.store.write() as session:
            yield session
            if not keep:
                session.rollback()
        if keep:
            for event in session.info.get("told", ()):
                self._tell(records.event_dict(event))

    def _tell(self, event: dict[str, Any]) -> None:
        if self._listener:
            self._listener(event)

    def _narrate(self, kind: str, **payload: Any) -> None:
        """Tell the listener of something that the store does not keep: nothing changes."""
        self._tell({"id": None, "time": utc_now().isoformat(), "kind": kind, "payload": payload})


class Changed(MatloopError):
    """Trials were added while a proposal was made; made again, it will know them."""


class NoDesign(MatloopError):
    """The search found no new design that passes the screen."""


def _member(trial: Trial) -> str | None:
    """Which member of a hedge proposed a trial."""
    notes = trial.provenance.get("notes")
    member = notes.get("member") if isinstance(notes, Mapping) else None
    return None if member is None else str(member)


def _errors(trials: Sequence[Trial], metrics: Sequence[str], means: np.ndarray) -> np.ndarray:
    """Errors of what was foretold of n trials, for `History.errors`: n x m."""
    import numpy as np

    from loop.calibration import raw_error

    errors = np.full(means.shape, np.nan)
    for row, trial in enumerate(trials):
        told, notes = trial.provenance.get("prediction") or {}, trial.provenance.get("notes") or {}
        widened, sds = notes.get("widened") or {}, notes.get("predictive_sd") or {}
        for j, metric in enumerate(metrics):
            if metric in told and metric in widened and metric in sds:
                errors[row, j] = raw_error(
                    means[row, j], told[metric]["mean"], sds[metric], widened[metric]
                )
    return errors


def derived_seed(seed: int, *counters: int) -> int:
    """A seed of 32 bits for one step, unrelated to that of any other step or campaign."""
    import numpy as np

    return int(np.random.SeedSequence([seed, *counters]).generate_state(1)[0])


def software_versions() -> dict[str, str]:
    """Versions of matloop and of what a proposal depends on, without importing any of it."""
    versions = {"matloop": __version__}
    for name in _SOFTWARE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _take_changes(
    session: Session, row: CampaignRow, stored: dict[str, Any], text: str, where: str
) -> None:
    """Take in a spec that differs from the campaign's in what may change; else refuse it."""
    if row.spec == stored:
        return
    from campaigns.spec import Spec
    from campaigns.spec_changes import ALWAYS, SPACE, Tried, check_space, with_retired

    try:
        before = Spec.model_validate(row.spec)
    except ValidationError:
        return  # which whoever opens it is told
    tried = [
        Tried(*told)
        for told in session.execute(
            select(Trial.index, Trial.design, Trial.provenance).where(Trial.campaign_id == row.id)
        )
    ]
    known = json.loads(strict_json(before.model_dump(mode="json")))
    stored = with_retired(known, stored, tried)
    changed = sorted(k for k in {*known, *stored} if known.get(k) != stored.get(k))
    if not changed:
        return
    fixed = [key for key in changed if key not in (*ALWAYS, *SPACE)]
    why, notes = f"they differ in {', '.join(fixed)}", []
    hint = f"undo the change ({', '.join((*ALWAYS, *SPACE))} may change)"
    if not fixed and set(changed) & set(SPACE):
        try:
            notes = check_space(before, Spec.model_validate(stored), tried)
        except MatloopError as error:
            fixed = [key for key in changed if key in SPACE]
            told = f"{error.what}: {error.why}" if error.why else error.what
            why = f"they differ in {', '.join(fixed)}: {told}"
            hint = error.hint or hint
    if fixed:
        raise UsageError(
            f"the campaign {row.name!r} in this database has another spec",
            where=where,
            why=why,
            unchanged="that campaign",
            hint=f"{hint}; or give the spec another name, or name another database with --db",
        )
    row.spec, row.spec_text, row.spec_hash = stored, text, _hash(strict_json(stored))
    record(
        session, row.id, "spec_changed", changed=changed, spec_hash=row.spec_hash,
        content=row.content(),
        **({"notes": notes} if notes else {}),
    )  # fmt: skip


def _generators(problem: Problem, first: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Name, version, parent and card of each axis' generator; of a tuned one, its first version."""
    return {
        axis.name: {
            "name": axis.generator.name,
            "version": axis.generator.version,
            "parent": axis.generator.parent,
            "card": records.plain(axis.generator.card),
            **({"from": first[axis.name]} if axis.name in first else {}),
        }
        for axis in problem.space.axes
        if hasattr(axis, "generator")
    }


def _keep_generators(session: Session, versions: dict[str, dict[str, Any]]) -> int | None:
    """Store generator versions that are new; the id of the first axis's."""
    ids = [
        tuning.keep_version(session, v["name"], v["version"], v["parent"], v["card"])
        for v in versions.values()
    ]
    return ids[0] if ids else None
