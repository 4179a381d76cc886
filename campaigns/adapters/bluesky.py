"""A campaign as the optimiser of a beamline: the protocols of bluesky-adaptive 1.x.

    optimizer = MatloopOptimizer(Client(URL, key), "light-stiff")
    problem = OptimizationProblem(optimizer, actuators=..., sensors=..., evaluation_function=...)
    RE(optimize(problem, iterations=10))

A suggestion has a campaign's flat parameters under the actuators' names, and as `_id` the trial's
number; a crystal, which no actuator can be set to, is had by `structures`. bluesky-adaptive asks
for no base class, so this module needs neither it nor bluesky; nothing is kept in memory that the
server does not know, so a RunEngine that is restarted loses no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from campaigns.adapters.base import Bench, wanted
from campaigns.client import Client
from campaigns.errors import UsageError

ID_KEY: Final = "_id"


class MatloopOptimizer:
    """Every protocol of an optimiser: suggestions, own points, failures, stopping, checkpoints.

    Args:
        client: The server.
        campaign: The campaign's name.
        worker: What its pages call this instrument.
        patience: Seconds to wait for trials, where none is ready yet.
    """

    def __init__(
        self, client: Client, campaign: str, *, worker: str = "bluesky", patience: float = 600.0
    ) -> None:
        self.bench = Bench(client, campaign, worker, patience)
        self._own: dict[Any, dict[str, Any]] = {}

    def suggest(self, num_points: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Take so many trials (1); fewer where no more are ready.

        Raises:
            MatloopError: None was ready in time.
        """
        leases = self.bench.take(num_points or 1)
        return [{ID_KEY: lease.trial, **lease.params} for lease in leases]

    def structures(self, trial: int) -> dict[str, Any]:
        """The crystals of a suggestion by axis: OPTIMADE attributes and `cif`, for the metadata."""
        lease = self.bench.keeper.get(trial)
        return {} if lease is None else dict(lease.structures)

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Hand in outcomes, of suggestions by their `_id` and of others by their parameters.

        Raises:
            MatloopError: The server refused one.
        """
        for point in points:
            name = point.get(ID_KEY)
            if isinstance(name, int) and not isinstance(name, bool):
                self.bench.report(name, point)
                continue
            params = self._own.pop(name, None)
            units = self.bench.units()
            if params is None:
                params = {k: v for k, v in point.items() if k != ID_KEY and k not in units}
            if not params:
                raise UsageError(
                    f"outcomes of {name!r}, which is no suggestion, came without parameters",
                    unchanged="the campaign",
                    hint="`register_suggestions` first, or put the parameters into the point",
                )
            known = isinstance(name, str) and name not in ("", "baseline")
            self.bench.client.observe(
                self.bench.campaign,
                wanted(point, units),
                params=params,
                external_id=str(name) if known else None,
                source=self.bench.worker,
            )

    def get_best_points(
        self,
    ) -> Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]:
        """The best trial, or those that no other beats: `_id`, parameters, outcomes."""
        return [
            (
                trial["trial"],
                trial["params"],
                {metric: told["mean"] for metric, told in trial["observations"].items()},
            )
            for trial in self.bench.best()
        ]

    def register_suggestions(
        self, suggestions: Sequence[Mapping[str, Any]]
    ) -> Sequence[Mapping[str, Any]]:
        """Give points of your own an `_id`; they become trials with their outcomes."""
        named = [{**s, ID_KEY: f"manual-{uuid4().hex}"} for s in suggestions]
        for point in named:
            self._own[point[ID_KEY]] = {k: v for k, v in point.items() if k != ID_KEY}
        return named

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Fail suggestions whose acquisition or evaluation raised an exception."""
        for suggestion in suggestions:
            name = suggestion[ID_KEY]
            self._own.pop(name, None)
            if isinstance(name, int):
                self.bench.fail(name, "acquisition or evaluation raised an exception")

    def should_stop(self) -> tuple[bool, str | None]:
        """Whether the campaign is at its end, by its own stop rules."""
        why = self.bench.ended()
        return why is not None, why

    def checkpoint(self) -> None:
        """Nothing is to be saved, since the server has everything; fails if it does not answer."""
        self.bench.client.health()
