"""What fine-tuning is told: what was examined, what is wanted, how to learn, and where to run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Method = Literal["weighting", "reward", "adapter", "full"]
METHODS: tuple[str, ...] = get_args(Method)
Goal = Literal["maximize", "minimize", "target", "at_most", "at_least"]

# An adapter is a small network on the latent vector: its steps take milliseconds.
STEPS = {"weighting": 200, "reward": 200, "full": 200, "adapter": 2400}
BATCH = {"weighting": 64, "reward": 64, "full": 64, "adapter": 256}
LEARNING_RATE = dict.fromkeys(METHODS, 1e-3)


class FineTuneError(ValueError):
    """Fine-tuning that cannot be done as asked; one line for a person."""


class Collapsed(FineTuneError):
    """The new version fell below the floor, so there is none.

    Attributes:
        before: Figures of the parent.
        after: Figures of the version that was dropped.
    """

    def __init__(
        self, message: str, before: Mapping[str, float], after: Mapping[str, float]
    ) -> None:
        super().__init__(message)
        self.before, self.after = dict(before), dict(after)


@dataclass(frozen=True)
class Examined:
    """What a campaign found out, oldest first.

    Attributes:
        designs: `n` designs.
        values: For each metric `n` values in the metric's unit, NaN where it was not measured.
        failed: `n`, whether the evaluation failed.

    Raises:
        FineTuneError: The lengths differ.
    """

    designs: Sequence[Any]
    values: Mapping[str, Array]
    failed: NDArray[np.bool_]

    def __post_init__(self) -> None:
        lengths = {len(self.failed), *(len(v) for v in self.values.values())}
        if lengths != {len(self.designs)}:
            raise FineTuneError(
                f"{len(self.designs)} designs do not go with values and marks of {sorted(lengths)}"
            )

    def __len__(self) -> int:
        return len(self.designs)


@dataclass(frozen=True)
class Aim:
    """What is wanted of a metric, in its unit.

    Attributes:
        metric: Its name.
        goal: Which way is better, `target` for near to `value`, or the bound that `value` is.
        value: Of a target or a bound.

    Raises:
        FineTuneError: There is no such goal, or it needs a value.
    """

    metric: str
    goal: Goal
    value: float | None = None

    def __post_init__(self) -> None:
        if self.goal not in get_args(Goal):
            raise FineTuneError(f"there is no goal {self.goal!r}: {', '.join(get_args(Goal))}")
        if (self.goal in ("maximize", "minimize")) != (self.value is None):
            raise FineTuneError(f"{self.metric}: a value goes with targets and bounds, only")


@dataclass(frozen=True)
class Floor:
    """The least that a version must keep of what the generator that it all began with could do.

    Each is a share of that generator's own figure, so 1 allows no loss at all.

    Attributes:
        reconstruction: Of held-out designs that decode to a match.
        valid: Of prior draws that decode to a valid design.
        unique: Of those that are different designs.
        new: Of those that were not examined yet: a version that writes little else than what is
            known has nothing to propose.
    """

    reconstruction: float = 0.7
    valid: float = 0.8
    unique: float = 0.5
    new: float = 0.2

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if not 0 <= share <= 1:
                raise FineTuneError(f"the floor of {name} is a share, not {share}")


@dataclass(frozen=True)
class Recipe:
    """How to learn.

    Attributes:
        method: `weighting` (Tripp, Daxberger and Hernandez-Lobato 2020), `reward` (MatInvent,
            2025), `adapter` (MatterGen's adapters, Zeni et al. 2025, on the latent space) or
            `full`.
        aims: What is wanted.
        steps: Of the optimizer; by default what the method needs, see `STEPS`.
        batch: Designs a step; by default `BATCH`.
        learning_rate: Of AdamW; by default `LEARNING_RATE`.
        replay: Share of each batch that is not from what was examined, against forgetting; by
            default 0.3, and none with `reward`, whose pull is against that.
        replay_rows: Designs to draw that share from.
        data: Folder of the generator's training data; without it, designs that the parent decodes
            from its prior stand for them.
        k: Of `weighting`: of all designs that are learnt from, replayed ones too, about a share `k`
            count as the best; the lower it is, the more the very best count.
        predicted: Of `adapter`: whether its teachers see what predictors say of designs
            too, beside the generator's own heads.
        pull: Of `reward`: sigma, how strongly the parent's predictions are held to.
        seed: Of everything random.
        floor: See `Floor`.

    Raises:
        FineTuneError: Something is out of its range.
    """

    method: Method = "weighting"
    aims: tuple[Aim, ...] = ()
    steps: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    replay: float | None = None
    replay_rows: int = 1000
    data: str | None = None
    k: float = 1e-3
    predicted: bool = False
    pull: float = 0.025
    seed: int = 0
    floor: Floor = field(default_factory=Floor)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise FineTuneError(f"there is no method {self.method!r}: {', '.join(METHODS)}")
        if not self.aims:
            raise FineTuneError("nothing is wanted: give the recipe an aim")
        # a copy of these, so that a card says what was done whatever later defaults are
        for name, table in (("steps", STEPS), ("batch", BATCH), ("learning_rate", LEARNING_RATE)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, table[self.method])
        if self.replay is None:
            object.__setattr__(self, "replay", 0.0 if self.method == "reward" else 0.3)
        positive = {"steps": self.steps, "batch": self.batch, "replay_rows": self.replay_rows,
                    "learning_rate": self.learning_rate, "k": self.k}  # fmt: skip
        for name, number in positive.items():
            if number is None or not (math.isfinite(number) and number > 0):
                raise FineTuneError(f"{name} must be above zero, not {number}")
        if self.replay is None or not 0 <= self.replay < 1 or self.pull < 0:
            raise FineTuneError("replay is a share below 1, and pull is not negative")

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data, from which `from_dict` makes the same."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `as_dict` wrote.

        Raises:
            FineTuneError: It is none.
        """
        try:
            aims = tuple(Aim(**aim) for aim in data.get("aims", ()))
            return cls(**{**data, "aims": aims, "floor": Floor(**data.get("floor", {}))})
        except TypeError as error:
            raise FineTuneError(f"this is no recipe for fine-tuning: {error}") from error


@dataclass(frozen=True)
class Runtime:
    """Where to run; it changes nothing of what is learnt but the last digits.

    Attributes:
        device: cpu, cuda, mps or auto (the best there is).
        devices: How many; over one by Lightning's strategies.
        strategy: Lightning's name of one, as ddp.
        threads: Of the processor; 0 leaves it to torch.
        seconds_between_checkpoints: Of the work that a kill may cost.
    """

    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    threads: int = 1
    seconds_between_checkpoints: float = 20.0
