"""A spec that changes in mid-campaign: what may, what becomes of the old data, and what cannot be.

Budget, stop and evaluator may change, and so may the space: ranges, choices and compositions, which
axes there are, and the constraints on parameters. Trials keep the designs that they had. What was
observed of them informs as far as the new space can describe it; it is never proposed again unless
the new space allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaigns.errors import MatloopError
from campaigns.spec_axes import AnyAxis, LatentAxis, PoolAxis
from campaigns.spec_environment import is_path, version_at

if TYPE_CHECKING:
    from campaigns.spec import Spec

ALWAYS = (
    "budget", "stop", "evaluate", "acquisition", "learn_from", "fine_tune", "approve", "lease"
)  # fmt: skip
"""What may change whatever was tried: how long, how it is evaluated and how designs are chosen."""

SPACE = ("space", "constraints")
"""What may change as far as the old data can be kept."""


@dataclass(frozen=True)
class Tried:
    """A trial that the campaign has: its number, design (JSON) and provenance."""

    trial: int
    design: Mapping[str, Any]
    provenance: Mapping[str, Any]


class CannotKeep(MatloopError):
    """A change that would leave old data behind without saying so."""


def with_retired(before: Mapping[str, Any], after: dict[str, Any], tried: Sequence[Tried]) -> Any:
    """The data of a changed spec, in which choices that were removed stay known.

    Args:
        before: The data of the spec as the campaign has it.
        after: Those of the new one.
        tried: The campaign's trials.

    Returns:
        The same data, `retired` filled in of choices and compositions.
    """
    space = dict(after["space"])
    for name, axis in space.items():
        old = before["space"].get(name, {})
        values = [t.design.get(name, old.get("default")) for t in tried]
        if "choice" in axis and "choice" in old:
            used = [v for v in values if not isinstance(v, dict | list)]
            now, gone = axis["choice"], [*old["choice"], *old.get("retired", ())]
        elif "composition" in axis and "composition" in old:
            used = [i for v in values if isinstance(v, dict) for i, amount in v.items() if amount]
            now, gone = axis["composition"], [*old["composition"], *old.get("retired", ())]
        else:
            continue
        kept = [v for v in gone if v not in now and v in used]
        retired = [*axis.get("retired", ()), *kept]
        space[name] = {**axis, "retired": [v for v in dict.fromkeys(retired) if v not in now]}
    return {**after, "space": space}


def check_space(before: Spec, after: Spec, tried: Sequence[Tried]) -> list[str]:
    """Whether the old data can be kept in a changed space.

    Args:
        before: The spec as the campaign has it.
        after: The new one, choices retired.
        tried: The campaign's trials.

    Returns:
        Sentences on what becomes of them.

    Raises:
        CannotKeep: They cannot be kept.
    """
    _check_metrics(before, after)
    notes: list[str] = []
    for name, axis in after.space.items():
        old = before.space.get(name)
        if old is None:
            notes += _added(name, axis, tried)
            continue
        if not isinstance(axis, LatentAxis):
            _added(name, axis, tried)  # trials from before it was may still need its default
        if old != axis:
            notes += _changed(name, old, axis, tried)
    for name in before.space:
        if name not in after.space:
            count = sum(name in t.design for t in tried)
            notes.append(
                f"the axis {name} was removed: {_trials(count)} had a value of it, which stays in"
                " the store, and the surrogate sees it no more"
            )
    if before.constraints != after.constraints:
        notes.append(f"the constraints are {', '.join(after.constraints) or 'none'} now")
    return notes


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _check_metrics(before: Spec, after: Spec) -> None:
    """Refuse constraints on metrics that changed: they are what is sought."""
    if before.metric_bounds() != after.metric_bounds():
        raise CannotKeep(
            "the constraints on metrics differ",
            why="only those on parameters may change in mid-campaign",
        )


def _added(name: str, axis: AnyAxis, tried: Sequence[Tried]) -> list[str]:
    lacking = [t for t in tried if name not in t.design]
    if isinstance(axis, LatentAxis):
        if lacking:
            raise CannotKeep(
                f"the axis {name} is new and latent: the {_trials(len(lacking))} before it have"
                " no such design",
                hint="begin a campaign of another name",
            )
        return [f"the axis {name} was added"]
    if lacking and axis.default is None:
        raise CannotKeep(
            f"the axis {name} is new, and {_trials(len(lacking))} have no value of it",
            hint=f"say which they had: {name}: {{..., default: VALUE}}",
        )
    if not lacking:
        return [f"the axis {name} was added"]
    _describe(name, axis, lacking[:1])
    return [f"the axis {name} was added: the {_trials(len(lacking))} before had {axis.default}"]


def _default(axis: AnyAxis) -> Any:
    """The value of an axis, as JSON, that trials from before it had; None for none."""
    if isinstance(axis, LatentAxis) or axis.default is None:
        return None
    return {"row": axis.default} if isinstance(axis, PoolAxis) else axis.default


def _changed(name: str, old: AnyAxis, axis: AnyAxis, tried: Sequence[Tried]) -> list[str]:
    if type(old) is not type(axis):
        raise CannotKeep(
            f"the axis {name} is of another kind now",
            hint="give the new axis another name, and a default for the trials there are",
        )
    for key in ("unit", "total"):
        if getattr(old, key, None) != getattr(axis, key, None) and tried:
            raise CannotKeep(
                f"the axis {name} has another {key} now: {getattr(axis, key)},"
                f" not {getattr(old, key)}",
                hint=f"the values of its trials are in the old one: keep the {key}",
            )
    if isinstance(old, LatentAxis) and isinstance(axis, LatentAxis) and old.latent != axis.latent:
        return _moved(name, old, axis, tried)
    if isinstance(axis, PoolAxis) and isinstance(old, PoolAxis) and old.columns != axis.columns:
        known = {k for t in tried for k in (t.design.get(name) or {})} - {"row"}
        if lost := sorted(set(axis.columns or ()) - known) if tried else []:
            raise CannotKeep(
                f"the pool {name} has the new column {lost[0]}, which no trial has a value of"
            )
    _describe(name, axis, tried)
    told = f"the axis {name} changed: {_short(old)} became {_short(axis)}"
    retired = getattr(axis, "retired", ())
    if retired:
        told += f"; {', '.join(map(str, retired))} informs still, and is proposed no more"
    return [told]


def _short(axis: AnyAxis) -> str:
    data = axis.model_dump(mode="json", exclude_defaults=True)
    data.pop("retired", None)
    return "{" + ", ".join(f"{key}: {value}" for key, value in data.items()) + "}"


def _moved(name: str, old: LatentAxis, axis: LatentAxis, tried: Sequence[Tried]) -> list[str]:
    """Whether a generator's file only moved: it must be the version that the trials came from."""
    same_name = Path(old.latent).name == Path(axis.latent).name
    if is_path(axis.latent) and is_path(old.latent) and same_name:
        version = version_at(axis.latent)
        versions = {
            t.provenance["generators"][name].get(
                "from", t.provenance["generators"][name]["version"]
            )
            for t in tried
            if name in t.provenance.get("generators", {})
        }
        if versions <= {version}:
            return [f"the generator of {name} moved to {axis.latent}"]
    raise CannotKeep(
        f"the axis {name} is of another generator",
        why="the designs of its trials are those of the old one",
        hint="begin a campaign of another name",
    )


def _describe(name: str, axis: AnyAxis, tried: Sequence[Tried]) -> None:
    """Refuse an axis that cannot describe the values there are."""
    if not tried or isinstance(axis, LatentAxis):
        return
    from campaigns.spec_space import loop_axis

    made = loop_axis(name, axis)
    for one in tried:
        value = one.design.get(name, _default(axis))
        try:
            made.features([made.from_json(value)])
        except (ValueError, KeyError) as error:
            raise CannotKeep(
                f"the axis {name} cannot describe what trial {one.trial} has: {value}",
                why=" ".join(str(error).split()),
                hint="widen it, or give the new axis another name and a default",
            ) from error


def completed(spec: Spec, design: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's design, as JSON, with the defaults of axes that were added after it."""
    missing = {n: _default(a) for n, a in spec.space.items() if n not in design}
    return {**design, **{n: value for n, value in missing.items() if value is not None}}


def in_space(spec: Spec, design: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the values of axes that were removed: as the space reads it."""
    whole = completed(spec, design)
    return {name: whole[name] for name in spec.space if name in whole}
