"""An Ax experiment into a campaign: `begin_from_ax`. Out again: `matloop export --format ax`.

    ax_client = ax.api.client.Client.load_from_json_file("experiment.json")
    begin_from_ax(Client(URL, key), ax_client, units={"strength": "MPa"})

What becomes of what: ranges and choices are axes; each term of the objective is an objective (Ax's
weights of a scalarised one have no counterpart, so such an experiment is refused); constraints stay
constraints; objective thresholds become thresholds; completed trials are taken in with their
standard errors, failed and abandoned ones are told as such, and what Ax has running becomes a
candidate. Ax knows no units: say them, or the metrics have none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaigns.client import Client
from campaigns.errors import UsageError

if TYPE_CHECKING:
    from ax.api.client import Client as AxClient


def spec_from_ax(
    ax_client: AxClient,
    name: str | None = None,
    *,
    units: Mapping[str, str] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    trials: int | None = None,
    batch: int = 4,
) -> dict[str, Any]:
    """The spec of a campaign that seeks what an Ax experiment seeks.

    Args:
        ax_client: With an experiment and its objective configured.
        name: The campaign's; default: the experiment's.
        units: Of metrics and parameters; default: dimensionless.
        evaluate: Who answers; default: a laboratory.
        trials: The budget; default: 50 more than there are.
        batch: Trials that wait at one time.

    Raises:
        UsageError: Something of the experiment has no counterpart.
    """
    experiment, units = ax_client._experiment, dict(units or {})
    config = experiment.optimization_config
    if config is None:
        raise UsageError("the Ax experiment has no objective", hint="configure_optimization first")
    if config.objective.is_scalarized_objective:
        raise UsageError(
            f"the objective {config.objective.expression!r} is a sum of metrics",
            unchanged="nothing was made",
            hint="report the sum as a metric of its own, or name the terms as several objectives",
        )
    constraints = [
        " + ".join(f"{factor!r}*{p}" for p, factor in c.constraint_dict.items())
        + f" <= {c.bound!r}"
        for c in experiment.search_space.parameter_constraints
    ]
    objectives: dict[str, dict[str, Any]] = {
        metric: {
            "goal": "maximize" if weight > 0 else "minimize",
            "unit": units.get(metric, "dimensionless"),
        }
        for metric, weight in config.objective.metric_weights
    }
    bounds = [*config.outcome_constraints, *getattr(config, "objective_thresholds", ())]
    for bound in bounds:
        if bound.relative or len(bound.metric_names) != 1:
            raise UsageError(
                f"the constraint {bound.expression!r} is relative, or on several metrics",
                unchanged="nothing was made",
                hint="say it in the metric's own numbers",
            )
        (metric,) = bound.metric_names
        sign = ">=" if bound.op.name == "GEQ" else "<="
        if metric in objectives and (sign == ">=") == (objectives[metric]["goal"] == "maximize"):
            objectives[metric]["threshold"] = float(bound.bound)
        else:
            unit = units.get(metric, "dimensionless")
            constraints.append(f"{metric} {sign} {float(bound.bound)!r} {unit}")
    count = len(experiment.trials)
    return {
        "campaign": name or experiment.name,
        "space": {
            p.name: _axis(p, units.get(p.name)) for p in experiment.search_space.parameters.values()
        },
        "objectives": objectives,
        "constraints": constraints,
        "evaluate": dict(evaluate or {"with": "lab"}),
        "budget": {"trials": trials or count + 50, "batch": batch},
    }


def begin_from_ax(
    client: Client,
    ax_client: AxClient,
    name: str | None = None,
    *,
    units: Mapping[str, str] | None = None,
    **spec: Any,
) -> dict[int, int]:
    """Begin a campaign with an Ax experiment's goal and trials, or bring it up to date.

    Args:
        client: The server; the key needs the scopes read, ingest and decide.
        ax_client: The experiment.
        name: The campaign's; default: the experiment's.
        units: Of metrics and parameters; default: dimensionless.
        spec: As `spec_from_ax`.

    Returns:
        The campaign's trial for each of Ax's; one that was sent before is not sent again.

    Raises:
        UsageError: As `spec_from_ax`.
        MatloopError: The server refused something.
    """
    made = spec_from_ax(ax_client, name, units=units, **spec)
    campaign = made["campaign"]
    if campaign not in {c["name"] for c in client.campaigns()}:
        client.create(json.dumps(made))  # JSON is YAML
    wanted = client.units(campaign)
    data = ax_client._experiment.lookup_data().df
    found: dict[int, int] = {}
    failed: list[tuple[int, str]] = []
    for index, trial in ax_client._experiment.trials.items():
        metrics: dict[str, dict[str, Any]] = {}
        for row in data[data["trial_index"] == index].to_dict(orient="records"):
            metric, mean, sem = str(row["metric_name"]), float(row["mean"]), row["sem"]
            if metric in wanted and math.isfinite(mean):
                metrics[metric] = {"value": mean, "unit": wanted[metric]}
                if sem is not None and math.isfinite(sem):
                    metrics[metric]["sem"] = float(sem)
        status = trial.status.name
        told = client.observe(
            campaign,
            metrics if status == "COMPLETED" else {},
            params=dict(trial.arms[0].parameters),
            external_id=f"ax-{index}",
            source="ax",
        )
        found[index] = told["trial"]
        reason = trial.status_reason or "no reason was given"
        if status == "FAILED":
            failed.append((told["trial"], reason))
        elif status == "ABANDONED" and told.get("status") == "candidate":
            client.reject(campaign, told["trial"], reason)
    if failed:
        rows = [{"trial": t, "status": "failed", "reason": reason} for t, reason in failed]
        client.ingest(campaign, "ax.json", json.dumps(rows).encode())
    return found


def _axis(parameter: Any, unit: str | None) -> dict[str, Any]:
    """A parameter of Ax as an axis of a spec."""
    kind = type(parameter).__name__
    if kind == "RangeParameter":
        axis: dict[str, Any] = {"range": [parameter.lower, parameter.upper]}
        if parameter.log_scale:
            axis["log"] = True
        if parameter.parameter_type.name == "INT":
            axis["integer"] = True
        return axis | ({"unit": unit} if unit else {})
    if kind == "ChoiceParameter" and len(parameter.values) > 1:
        words = parameter.parameter_type.name == "BOOL"
        return {"choice": [str(v).lower() if words else v for v in parameter.values]}
    raise UsageError(
        f"the parameter {parameter.name} of Ax is a {kind}, which no axis is",
        unchanged="nothing was made",
        hint="remove it from the experiment: a fixed value need not be searched",
    )
