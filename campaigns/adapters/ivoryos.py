"""A campaign as an optimiser of IvoryOS.

    from ivoryos.optimizer.registry import OPTIMIZER_REGISTRY
    mine = connected("http://127.0.0.1:8000", key="mlk_...", campaign="light-stiff")
    ivoryos.run(__name__, optimizer_registry={**OPTIMIZER_REGISTRY, "matloop": mine})

IvoryOS makes the optimiser itself, so `connected` gives it a class that knows the server. It
matches results to suggestions by their place in a list: this class keeps the trial of each place,
and refuses a list of another length, which could only be guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ivoryos.optimizer.base_optimizer import OptimizerBase

from campaigns.adapters.base import Bench, wanted
from campaigns.client import Client, Refused
from campaigns.errors import MatloopError


class MatloopOptimizer(OptimizerBase):
    """The base of what `connected` makes; its arguments are IvoryOS's.

    A campaign is taken as it is; where none was named, one is begun with IvoryOS's parameters and
    objectives, under the experiment's name.

    Raises:
        MatloopError: The server does not answer, or the key may not.
    """

    client: Client
    campaign: str | None = None
    patience = 600.0

    def __init__(
        self,
        experiment_name: str,
        parameter_space: list[dict[str, Any]],
        objective_config: list[dict[str, Any]],
        optimizer_config: dict[str, Any] | None = None,
        parameter_constraints: list[str] | None = None,
        datapath: str | None = None,
        additional_params: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            experiment_name, parameter_space, objective_config, optimizer_config or {},
            parameter_constraints, datapath, additional_params,
        )  # fmt: skip
        name = self.campaign or self._begin()
        self.bench = Bench(self.client, name, "ivoryos", self.patience)
        self._places: list[int] = []

    def suggest(self, n: int = 1) -> list[dict[str, Any]]:
        """Take n trials; fewer where no more are ready.

        Raises:
            MatloopError: None was ready in time, or the campaign has ended.
        """
        leases = self.bench.take(n)
        self._places = [lease.trial for lease in leases]
        return [dict(lease.params) for lease in leases]

    def observe(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Hand in one result for each suggestion, in their order; one without a value has failed.

        Raises:
            MatloopError: There are more or fewer, or one is of other parameters.
        """
        places, self._places = self._places, []
        leases = [self.bench.keeper.get(trial) for trial in places]
        wrong = f"{len(results)} results came for {len(places)} suggestions"
        if len(results) == len(places):
            mixed = [
                lease.trial
                for lease, result in zip(leases, results, strict=True)
                if lease and _other(lease.params, result)
            ]
            wrong = f"the results of trials {mixed} are of other parameters" if mixed else ""
        if wrong:
            for trial in places:
                self.bench.fail(trial, wrong, lost=True)
            raise MatloopError(
                wrong,
                where=self.bench.campaign,
                unchanged="the campaign: its trials were handed back",
                hint="a workflow returns one result for each suggestion, in their order",
            )
        for trial, result in zip(places, results, strict=True):
            self.bench.report(trial, result)

    def append_existing_data(self, existing_data: Any, file_path: str | None = None) -> None:
        """Hand in earlier results: a pandas DataFrame or a list of rows.

        Raises:
            Refused: A row is outside the campaign's design space.
        """
        rows = existing_data
        if hasattr(existing_data, "to_dict"):
            rows = existing_data.to_dict(orient="records")
        names = [parameter["name"] for parameter in self.parameter_space]
        units = self.bench.units()
        for row in rows:
            params = {name: _plain(row[name]) for name in names}
            metrics = wanted(row, units)
            if metrics:
                # The same row of the same file is taken in once, however often it is sent.
                known = json.dumps([params, metrics], sort_keys=True)
                self.client.observe(
                    self.bench.campaign, metrics, params=params, source="ivoryos",
                    external_id=f"ivoryos-{_short(known)}",
                )  # fmt: skip

    def get_plots(self, plot_type: str = "all") -> dict[str, str]:
        """The campaign's best trials, as HTML; `error` where there are none yet."""
        best = self.bench.best()
        if not best:
            return {"error": f"campaign {self.bench.campaign} has no completed trial yet"}
        rows = "".join(
            f"<li>trial {t['trial']}: "
            + escape(
                ", ".join(f"{m} {o['mean']:.4g} {o['unit']}" for m, o in t["observations"].items())
            )
            + "</li>"
            for t in best
        )
        link = escape(self.client.url)
        return {"Campaign": f"<ul>{rows}</ul><a href='{link}'>{escape(self.bench.campaign)}</a>"}

    def close(self) -> None:
        """Hand back what was not answered, and close the connection."""
        self.bench.close()
        self.client.close()

    @staticmethod
    def get_schema() -> dict[str, Any]:
        """What IvoryOS offers for it: one step, since the campaign itself says how it goes on."""
        return {
            "parameter_types": ["range", "choice"],
            "multiple_objectives": True,
            "optimizer_config": {"step_1": {"model": ["campaign"], "num_samples": 1}},
            "additional_field": {},
        }

    def _begin(self) -> str:
        """Begin a campaign of IvoryOS's parameters, or go on with it."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.experiment_name).strip("-._")[:64]
        spec = {
            "campaign": name,
            "space": {p["name"]: _axis(p) for p in self.parameter_space},
            "objectives": {
                o["name"]: {
                    "goal": "minimize" if o.get("minimize", True) else "maximize",
                    "unit": o.get("unit", "dimensionless"),
                }
                for o in self.objective_config
            },
            "constraints": list(self.parameter_constraints or ()),
            "evaluate": {"with": "lab"},
            "budget": {"trials": 1000, "batch": 4},
        }
        if name not in {c["name"] for c in self.client.campaigns()}:
            try:
                self.client.create(json.dumps(spec))  # JSON is YAML
            except Refused as error:
                if error.status != 409:  # another was quicker
                    raise
        return name


def connected(
    url: str, key: str | None = None, campaign: str | None = None, patience: float = 600.0
) -> type[MatloopOptimizer]:
    """An optimiser class for `ivoryos.run(optimizer_registry=...)`.

    Args:
        url: The server.
        key: With the scopes read, work and ingest; decide too, where campaigns are to be begun.
        campaign: Which; default: one for each IvoryOS experiment.
        patience: Seconds to wait for a proposal.
    """
    settings = {"client": Client(url, key), "campaign": campaign, "patience": patience}
    return type("MatloopOptimizer", (MatloopOptimizer,), settings)


def _axis(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter of IvoryOS as an axis of a spec."""
    bounds, kind = list(parameter["bounds"]), parameter.get("value_type", "float")
    if parameter["type"] == "choice":
        return {"choice": bounds}
    if len(bounds) == 3:  # with a step
        values = OptimizerBase._create_discrete_search_space(bounds, kind)
        return {"choice": values}
    return {"range": bounds, "integer": kind == "int"}


def _other(params: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether a result repeats a parameter with another value."""
    for name in params.keys() & result.keys():
        a, b = params[name], _plain(result[name])
        if isinstance(a, int | float) and isinstance(b, int | float):
            if abs(a - b) > 1e-6 * max(abs(a), abs(b), 1e-12):
                return True
        elif str(a) != str(b):
            return True
    return False


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _short(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:32]
