"""The inner loop: a campaign's generator learns from the campaign's results.

When enough trials were completed since the last time, a child process makes the generator's next
version before the next batch is proposed. Its files lie beside the campaign's results; the store
takes the version and the event that tells of it in one transaction, and from then on proposals are
made, and all that was observed is encoded, by the new version. A version that fell below the floor,
or could not be made, is told of and not used. Killed at any instant, the child goes on from its
checkpoint when the campaign does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from campaigns import fidelities, records
from campaigns.errors import MatloopError
from campaigns.spec_axes import LatentAxis
from campaigns.spec_environment import version_at
from campaigns.store.models import FAILED, Event, GeneratorVersion, Trial
from campaigns.store.store import record

if TYPE_CHECKING:
    from campaigns.campaign import Campaign
    from campaigns.spec import Spec
    from campaigns.spec_tuning import FineTune
    from generators.fine_tuning import Aim, Examined, Recipe
    from loop.axes.latent import LatentAxis as Searched
    from loop.problem import Problem

TUNED, KEPT = "generator_tuned", "generator_kept"
"""Events: a new version is used; or none was made, and the parent stays."""


def spec_now(campaign: Campaign) -> Spec:
    """The campaign's spec, each latent axis of the generator's latest version.

    Raises:
        MatloopError: The file of a version is not there.
    """
    spec = campaign.spec
    if spec.fine_tune is None:
        return spec
    space = dict(spec.space)
    for name, told in _latest(campaign).items():
        axis = space.get(name)
        if not isinstance(axis, LatentAxis) or not _descends(told, axis):
            continue  # the axis was removed, or is of another generator now
        path = folder(campaign) / told["file"]
        if not path.is_file():
            raise MatloopError(
                f"version {told['version']} of the generator is absent",
                where=str(path),
                why="the campaign's last proposals came from it",
                unchanged="the campaign",
                hint="put the file and its card back; or remove `fine_tune` from the spec, to go "
                "on with the generator that it names",
            )
        space[name] = axis.model_copy(update={"latent": str(path)})
    return spec.model_copy(update={"space": space})


def ancestors(campaign: Campaign) -> dict[str, str]:
    """By latent axis that has a fine-tuned generator: the version that it all began with."""
    if campaign.spec.fine_tune is None:
        return {}
    return {name: str(told["from"]["version"]) for name, told in _latest(campaign).items()}


def folder(campaign: Campaign) -> Path:
    """Where the campaign's versions lie."""
    return campaign.store.results_dir(campaign.name) / "generators"


def tune_if_due(
    campaign: Campaign, computing: Callable[[], AbstractContextManager[Any]] | None = None
) -> bool:
    """Let the generators learn if it is time; the caller holds the runner's lock.

    Args:
        campaign: Whose.
        computing: Makes a context for the long wait, in which the runner lets itself be
            interrupted.

    Returns:
        Whether there is a new version.

    Raises:
        MatloopError: The disk or the database failed.
    """
    plan = campaign.spec.fine_tune
    if plan is None:
        return False
    with campaign.store.read() as session:
        trials = records.trials_of(session, campaign._row.id)
    done = sum(t.status == "completed" for t in trials)
    changed = False
    for name, axis in campaign.spec.space.items():
        if isinstance(axis, LatentAxis) and done - _last(campaign, name) >= plan.every:
            changed |= _tune(campaign, name, axis, plan, trials, done, computing or nullcontext)
    return changed


def _tune(
    campaign: Campaign,
    name: str,
    axis: LatentAxis,
    plan: FineTune,
    trials: list[Trial],
    done: int,
    computing: Callable[[], AbstractContextManager[Any]],
) -> bool:
    from generators.fine_tuning import FineTuneError
    from generators.fine_tuning.process import read_job, run_job, write_job
    from loop.axes.latent import LatentAxis as Searched

    found = next(a for a in campaign.problem.space.axes if a.name == name)
    assert isinstance(found, Searched)
    parent = found.generator
    place = folder(campaign)
    job = place / f"job-{name}"
    tag = {"campaign": campaign._row.token, "plan": plan.model_dump(mode="json")}
    try:
        begun = read_job(job)
        if (
            begun is None
            or begun["version"] != parent.version
            or begun["tag"] | tag != begun["tag"]
        ):
            recipe = _recipe(plan, campaign.goals, campaign.spec.seed, done, _predicted(found))
            now = spec_now(campaign).space[name]
            assert isinstance(now, LatentAxis)
            write_job(
                job, now.latent, parent.version, _examined(campaign, name, trials), recipe,
                place / f"{_safe(parent.name)}-{name}-{done}.safetensors",
                _runtime(plan), {**tag, "completed": done},
            )  # fmt: skip
            begun = read_job(job)
        assert begun is not None
        campaign._narrate("tuning", axis=name, method=plan.method, completed=done)

        def on_progress(progress: Any) -> None:
            campaign._narrate("tuning_step", axis=name, **progress)

        with computing():
            result = run_job(job, plan.seconds(), plan.memory_bytes(), on_progress)
    except FineTuneError as error:
        result = {"kind": "failed", "message": str(error)}
        begun = {"tag": {"completed": done}}
    except OSError as error:
        raise MatloopError(
            "the generator's next version cannot be written",
            where=str(job),
            why=error.strerror or str(error),
            unchanged="the campaign",
            hint="make room or allow writing there, then run the same command again: it goes on",
        ) from error
    told: dict[str, Any] = {
        "axis": name, "method": plan.method, "name": parent.name, "parent": parent.version,
        "completed": done, "learnt_at": begun["tag"]["completed"],
    }  # fmt: skip
    told |= {k: result[k] for k in ("before", "after", "minutes", "learned_from") if k in result}
    if result["kind"] == "tuned":
        _accept(campaign, axis, told, result)
    else:
        with campaign._change() as session:
            record(
                session, campaign._row.id, KEPT, **told, how=result["kind"],
                message=result["message"],
            )  # fmt: skip
    shutil.rmtree(job, ignore_errors=True)
    return bool(result["kind"] == "tuned")


def _accept(
    campaign: Campaign, axis: LatentAxis, told: dict[str, Any], result: dict[str, Any]
) -> None:
    """Take a version, its row and its event in one transaction; the next problem is of it."""
    from campaigns.spec_environment import load_latent

    card = load_latent(result["out"]).card
    first = _latest(campaign).get(told["axis"], {}).get("from")
    if first is None or not _descends({"from": first}, axis):
        first = {"latent": axis.latent, "version": told["parent"]}
    with campaign._change() as session:
        keep_version(session, told["name"], result["version"], told["parent"], card)
        record(
            session, campaign._row.id, TUNED, **told, version=result["version"],
            file=Path(result["out"]).name, **{"from": first},
        )  # fmt: skip
    campaign.__dict__.pop("problem", None)


def keep_version(
    session: Session, name: str, version: str, parent: str | None, card: dict[str, Any]
) -> int:
    """Store a generator version if it is new; its id."""
    row = session.scalar(
        select(GeneratorVersion).where(
            GeneratorVersion.name == name, GeneratorVersion.version == version
        )
    )
    if row is None:
        row = GeneratorVersion(name=name, version=version, parent=parent, card=records.plain(card))
        session.add(row)
        session.flush()
    return row.id


def _latest(campaign: Campaign) -> dict[str, dict[str, Any]]:
    """By axis, the payload of the event that took its latest version."""
    with campaign.store.read() as session:
        events = session.scalars(
            select(Event.payload)
            .where(Event.campaign_id == campaign._row.id, Event.kind == TUNED)
            .order_by(Event.id)
        ).all()
    return {told["axis"]: dict(told) for told in events}


def _descends(told: dict[str, Any], axis: LatentAxis) -> bool:
    """Whether a version came from the generator that an axis names, wherever its file is now."""
    first = told["from"]
    return axis.latent == first["latent"] or version_at(axis.latent) == first["version"]


def _last(campaign: Campaign, axis: str) -> int:
    """Trials that were completed when the axis' generator learnt last, whatever came of it."""
    with campaign.store.read() as session:
        events = session.scalars(
            select(Event.payload).where(
                Event.campaign_id == campaign._row.id, Event.kind.in_((TUNED, KEPT))
            )
        ).all()
    return max((int(told["learnt_at"]) for told in events if told["axis"] == axis), default=0)


def _examined(campaign: Campaign, name: str, trials: list[Trial]) -> Examined:
    """What was completed or failed of what is sought, designs as the store has them."""
    import numpy as np

    from generators.fine_tuning import Examined

    ended = [t for t in trials if t.status in ("completed", *FAILED) and name in t.design]
    metrics = campaign.goals.metrics
    means = fidelities.outcomes_that_count(campaign.spec, ended, metrics)
    return Examined(
        [t.design[name] for t in ended],
        dict(zip(metrics, means.T, strict=True)),
        np.array([t.status in FAILED for t in ended], dtype=bool),
    )


def _predicted(axis: Searched) -> bool:
    """Whether the surrogate sees what predictors say: then a teacher may too."""
    from generators.crystals.embedding import PredictedProperties

    return any(isinstance(e, PredictedProperties) for e in axis.embeddings)


def _recipe(plan: FineTune, goals: Problem, seed: int, done: int, predicted: bool) -> Recipe:
    from campaigns.campaign import derived_seed
    from generators.fine_tuning import Floor, Recipe

    return Recipe(
        method=plan.method,
        aims=tuple(aims(goals)),
        steps=plan.steps,
        learning_rate=plan.learning_rate,
        replay=plan.replay,
        data=plan.data,
        seed=derived_seed(seed, done, 2),
        predicted=predicted,
        floor=Floor(**plan.floor.model_dump()),
    )


def aims(goals: Problem) -> list[Aim]:
    """What a campaign seeks, as fine-tuning is told it; of a level, what is near to it."""
    from generators.fine_tuning import Aim

    found = [
        Aim(o.metric, "target" if o.target is not None else o.goal, o.target)  # type: ignore[arg-type]
        for o in goals.objectives
    ]
    bounds = {"<=": "at_most", ">=": "at_least"}
    found += [Aim(c.metric, bounds[c.op], c.bound) for c in goals.constraints]  # type: ignore[arg-type]
    return found


def _runtime(plan: FineTune) -> Any:
    from generators.fine_tuning import Runtime

    return Runtime(device=plan.device, devices=plan.devices)


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
