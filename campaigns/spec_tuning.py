"""The part `fine_tune` of a spec: whether, when and how the generator learns from results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from campaigns.errors import did_you_mean, quoted
from campaigns.spec_models import (
    Memory,
    Number,
    Part,
    Text,
    Time,
    Whole,
    fault,
    memory_bytes,
    seconds,
)

METHODS = ("weighting", "reward", "adapter", "full")
"""As `generators.fine_tuning` has them (a test compares them), which this need not import."""

Share = Annotated[Number, Field(ge=0, le=1)]


def _check_method(value: Any) -> Any:
    if isinstance(value, str) and value not in METHODS:
        raise fault(f"{quoted(value)} is no way to learn", did_you_mean(value, METHODS))
    return value


class TuneFloor(Part):
    """The least that a new version must keep, each a share of what the spec's generator could."""

    reconstruction: Share = 0.7
    """Of held-out designs that decode to a match."""
    valid: Share = 0.8
    """Of draws from the prior that are valid."""
    unique: Share = 0.5
    """Of those that differ."""
    new: Share = 0.2
    """Of those that were not examined yet."""


class FineTune(Part):
    """How the generator of a latent axis learns from results, in a process of its own."""

    every: Annotated[Whole, Field(ge=4)] = 20
    """Learn after so many more trials were completed."""
    method: Annotated[
        Literal["weighting", "reward", "adapter", "full"], BeforeValidator(_check_method)
    ] = "adapter"
    """How: docs/fine-tuning.md."""
    steps: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    """Steps of the optimizer; without it, what the method needs."""
    learning_rate: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Of the optimizer; without it, what the method needs."""
    replay: Annotated[Number, Field(ge=0, lt=1)] | None = None
    """Share of what is learnt that is not new, against forgetting; without it, what the method
    needs."""
    data: Annotated[Text, Field(min_length=1)] | None = None
    """The folder of the generator's training data, for the replay; without it, what the generator
    itself draws stands for them."""
    floor: TuneFloor = TuneFloor()
    """What must be kept: a version below is dropped, and the campaign goes on with its parent."""
    time_limit: Time = "30 min"
    """Learning that takes longer is given up, and tried again after `every` more trials."""
    memory_limit: Memory = "8 GiB"
    """Learning that needs more is given up likewise."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to learn; auto is a GPU where there is one."""
    devices: Annotated[Whole, Field(ge=1, le=1024)] = 1
    """How many of them."""

    def seconds(self) -> float:
        """`time_limit` in seconds."""
        return seconds(self.time_limit)

    def memory_bytes(self) -> int:
        """`memory_limit` in bytes."""
        return memory_bytes(self.memory_limit)
