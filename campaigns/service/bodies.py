"""What requests carry, as pydantic models: numbers are finite, and unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from campaigns.service.tokens import Scope

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]
Token = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Body(BaseModel):
    """A request's JSON."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Leases(Body):
    """Ask for trials."""

    worker: Name
    """Who asks: a name that is told in the campaign's pages."""
    n: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many trials at most."""
    ttl_s: Annotated[FiniteFloat, Field(ge=1, le=30 * 86400)] | None = None
    """Seconds until the lease ends without a heartbeat; default: the spec's `lease.ttl`."""
    fidelity: Word | None = None
    """Only trials at this fidelity."""
    capabilities: Annotated[list[Word], Field(max_length=50)] | None = None
    """The fidelities that this worker can answer; default: all."""


class Heartbeat(Body):
    """A sign of life."""

    token: Token
    """Of the lease."""
    progress: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    """Which part is done."""
    note: Annotated[str, StringConstraints(max_length=500)] | None = None
    """What it does, for people."""


class Measured(Body):
    """What was measured of a metric."""

    value: Annotated[FiniteFloat, Field(strict=True)]
    """The mean."""
    sem: Annotated[FiniteFloat, Field(ge=0, strict=True)] | None = None
    """The standard error of the mean, in the same unit; left out where it is not known."""
    unit: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    """The unit, in pint's spelling; the service converts it."""


class Realised(Body):
    """A parameter as it really was."""

    value: Annotated[FiniteFloat, Field(strict=True)] | str
    """Its value."""
    unit: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    """Its unit; left out: the spec's."""


class File(Body):
    """A file that an evaluation left."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """Its name, without folders."""
    media_type: Annotated[
        str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$", max_length=100)
    ] = "text/plain"
    """What it is."""
    text: str | None = None
    """Its text; or"""
    base64: str | None = None
    """its bytes."""

    @model_validator(mode="after")
    def _one(self) -> File:
        if (self.text is None) == (self.base64 is None):
            raise ValueError("an artifact has either text or base64")
        return self


Metrics = Annotated[dict[Word, Measured], Field(max_length=200)]
RealisedParams = Annotated[
    dict[Word, Realised | Annotated[FiniteFloat, Field(strict=True)] | str], Field(max_length=500)
]


class Result(Body):
    """What a worker found."""

    token: Token
    """Of the lease."""
    metrics: Metrics
    """By metric."""
    partial: bool = False
    """More is to come: the trial stays leased."""
    realised: RealisedParams | None = None
    """Parameters that were not quite what was asked for."""
    artifacts: Annotated[list[File], Field(max_length=100)] = []
    """Files to keep with the trial."""
    seconds: Annotated[FiniteFloat, Field(ge=0)] | None = None
    """How long it took."""
    provenance: dict[str, Any] | None = None
    """What answered: software, versions, settings."""


class Fail(Body):
    """Why there is no result."""

    token: Token
    """Of the lease."""
    kind: Literal["failed", "infeasible", "abandoned", "lost"]
    """failed: it was tried and gave nothing; infeasible: such a design cannot be; abandoned: it
    will not be tried; lost: the worker ended for another cause, so somebody else should try."""
    reason: Reason
    """One line, for people."""


class Observations(Body):
    """What was measured without a lease: earlier, by hand, or later."""

    trial: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Of this trial; or"""
    design: dict[str, Any] | None = None
    """of this design, as a trial's `design` has it; or"""
    params: dict[Word, Annotated[FiniteFloat, Field(strict=True)] | str] | None = None
    """of these flat parameters."""
    fidelity: Word | None = None
    """At which it was tried."""
    metrics: Metrics = {}
    """By metric; none: the design is to be tried."""
    external_id: Name | None = None
    """How the sender knows it: sent twice, it is once."""
    source: Name | None = None
    """Where it comes from; default: the key's name."""
    supersedes: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """The observation that this corrects."""
    realised: RealisedParams | None = None
    """Parameters that were not quite what was asked for."""

    @model_validator(mode="after")
    def _one(self) -> Observations:
        given = [self.trial is not None, self.design is not None, self.params is not None]
        if sum(given) != 1:
            raise ValueError("name a trial, or give a design, or params: one of the three")
        return self


class Proposals(Body):
    """Ask for proposals."""

    n: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many; default: the spec's batch."""
    near: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=1000)] | None = (
        None
    )
    """Trials in whose neighbourhood to look: within a box around their designs, this once."""


class Decision(Body):
    """A person's word on a trial."""

    reason: Reason | None = None
    """Why, for the record."""
    rev: Annotated[int, Field(ge=0)] | None = None
    """The trial's `rev` as the person saw it; another by now is a conflict."""


class Stop(Body):
    """Why a campaign is stopped, or goes on."""

    reason: Reason | None = None
    """For the record."""


class Answer(Body):
    """The answer to a campaign that paused to ask."""

    go_on: bool
    """Whether it is to go on."""


class NewCampaign(Body):
    """A campaign to begin."""

    spec: Annotated[str, StringConstraints(min_length=1, max_length=500_000)]
    """The spec, YAML."""


class NewToken(Body):
    """A key to make."""

    name: Name
    """What to call it."""
    scopes: Annotated[list[Scope], Field(min_length=1)]
    """What it may do."""
    campaign: Word | None = None
    """Only to this campaign."""
    days: Annotated[FiniteFloat, Field(gt=0, le=36500)] | None = None
    """Until it expires; default: it does not."""
