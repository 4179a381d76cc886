"""What goes between a server and whoever answers its trials, as plain Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from campaigns.errors import UsageError, did_you_mean

Metrics = Mapping[str, "float | Sequence[float] | Mapping[str, Any]"]
"""What was measured: by metric a number, `(number, standard error)`, or `{"value": ..., "sem": ...,
"unit": ...}`."""


@dataclass(frozen=True)
class Lease:
    """A trial that one worker has until the lease runs out.

    Attributes:
        trial: Its number.
        campaign: The campaign's name.
        token: Of this lease; a report with an older one is refused.
        attempt: How many leases the trial has had.
        expires_at: When it runs out, by the server's clock.
        ttl: Seconds from a heartbeat until then.
        params: The design as flat parameters: `temperature`, `alloy.Fe`.
        design: The design as the campaign has it, JSON.
        structures: Crystals by axis: OPTIMADE attributes, and `cif`.
        fidelity: At which it is to be tried, or None.
        units: The unit of every metric that is wanted.
        evaluate: The spec's evaluator, for those who use it.
        seed: For evaluators that draw random numbers.
        name: The design's, for people.
    """

    trial: int
    campaign: str
    token: int
    attempt: int = 1
    expires_at: str = ""
    ttl: float = 300.0
    params: dict[str, Any] = field(default_factory=dict)
    design: dict[str, Any] = field(default_factory=dict)
    structures: dict[str, Any] = field(default_factory=dict)
    fidelity: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    name: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lease:
        """Read what the server or `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is of another form.
        """
        units = data.get("units")
        if units is None:
            units = {m["name"]: m.get("unit") or "" for m in data.get("metrics_wanted") or ()}
        return cls(
            trial=int(data["trial"]),
            campaign=str(data["campaign"]),
            token=int(data["token"]),
            attempt=int(data.get("attempt") or 1),
            expires_at=str(data.get("expires_at") or ""),
            ttl=float(data.get("ttl_s") or data.get("ttl") or 300.0),
            params=dict(data.get("params") or {}),
            design=dict(data.get("design") or {}),
            structures=dict(data.get("structures") or {}),
            fidelity=data.get("fidelity"),
            units=dict(units),
            evaluate=dict(data.get("evaluate") or {}),
            seed=int(data.get("seed") or data["trial"]),
            name=data.get("name"),
        )

    def to_json(self) -> dict[str, Any]:
        """The same as strict JSON, for `from_json`."""
        return asdict(self)


@dataclass(frozen=True)
class Heartbeat:
    """The server's answer to a heartbeat.

    Attributes:
        expires_at: When the lease runs out now.
        cancel: The trial is not wanted any more: stop working on it.
    """

    expires_at: str
    cancel: bool

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Heartbeat:
        """Read the server's answer."""
        return cls(str(data.get("expires_at") or ""), bool(data.get("cancel")))


def metrics_json(metrics: Metrics, units: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What was measured, as the server takes it.

    Args:
        metrics: By name.
        units: The units that are meant where none is said.

    Raises:
        UsageError: A value is not a finite number, or its unit is not known.
    """
    made: dict[str, dict[str, Any]] = {}
    for name, said in metrics.items():
        if isinstance(said, Mapping):
            value, sem, unit = said.get("value"), said.get("sem"), said.get("unit")
        elif isinstance(said, Sequence) and not isinstance(said, str) and len(said) == 2:
            (value, sem), unit = said, None
        else:
            value, sem, unit = said, None, None
        told: dict[str, Any] = {"value": _finite(name, value)}
        if sem is not None:
            told["sem"] = _finite(f"{name}, standard error", sem)
        unit = unit or units.get(name)
        if not unit and units:
            raise UsageError(
                f"the campaign has no metric {name!r}, so that its unit is not known",
                unchanged="nothing was sent",
                hint=did_you_mean(name, units),
            )
        if unit:
            told["unit"] = unit
        made[name] = told
    return made


def _finite(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(
            f"{name} is {value!r}, which is no measurement",
            unchanged="nothing was sent",
            hint="a trial that could not be measured has failed: report that instead",
        )
    return number
