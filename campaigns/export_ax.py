"""A campaign as an Ax experiment: everything of Ax's that an export touches is in this module.

What becomes of what: a latent axis is d range parameters `z_0` ... ; ranges and choices stay what
they are; a composition is a range for each ingredient, `alloy_Fe`, and a pool one for each column
of numbers and a choice for each column of text (that amounts add up, and that rows are those of a
table, Ax cannot be told); an objective with a target is the distance from it, to be minimised; a
threshold of one objective among several is an objective threshold; a trial is a trial of the same
number, in the same state, whose arm is named after its design; its provenance is metadata of its
generator run. What was measured at a fidelity that is not sought is a tracking metric,
`METRIC_at_FIDELITY`. Ax knows no units: they are in the experiment's description and in each
trial's metadata.
"""

from __future__ import annotations

import keyword
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from campaigns import __version__, records
from campaigns.errors import MatloopError
from campaigns.fidelities import counting
from campaigns.spec_axes import CompositionAxis, LatentAxis, PoolAxis, RangeAxis
from campaigns.spec_changes import in_space
from campaigns.statuses import FAILED

if TYPE_CHECKING:
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    from campaigns.campaign import Campaign
    from loop.problem import Problem

# A draw from the prior lies within four standard deviations but once in sixteen thousand.
_LATENT_BOUND: Final = 4.0


def ax_snapshot(campaign: Campaign) -> dict[str, Any]:
    """What `Client.save_to_json_file` would write of a client that holds the campaign.

    Raises:
        MatloopError: A latent vector is not known, and its generator cannot be loaded.
    """
    with quiet():
        return ax_client(campaign)._to_json_snapshot()


def ax_client(campaign: Campaign) -> Client:
    """An Ax client that holds the campaign. Raises as `ax_snapshot`."""
    from ax.api.client import Client

    trials = [records.trial_dict(row) for row in campaign._trials()]
    problem = campaign.goals
    latents = _latents(campaign, trials)
    client = Client(random_seed=campaign.spec.seed)
    objective, bounds, dropped = _goals(problem)
    units = campaign.spec.metric_units()
    told = ", ".join(f"{_ax_name(m)} in {u}" for m, u in units.items())
    designs = [in_space(campaign.spec, t["design"]) for t in trials]
    limits, lacking = _limits(campaign, designs)
    dropped += _unsaid(campaign) + lacking
    without = f" Not taken over, since Ax cannot: {', '.join(dropped)}." if dropped else ""
    client.configure_experiment(
        name=campaign.name,
        parameters=_parameters(campaign, problem, latents, designs),
        parameter_constraints=limits,
        description=f"Exported by matloop {__version__}. Units: {told}.{without}",
    )
    client.configure_optimization(objective=objective, outcome_constraints=bounds or None)
    others = {_ax_name(metric) for metric in units} - set(client._experiment.metrics)
    client.configure_tracking_metrics(sorted(others))
    # Ax's analyses want to be told how Ax would go on; its own default, from the trials there are.
    client.configure_generation_strategy(initialize_with_center=False)
    counts = counting(campaign.spec, campaign._trials())
    for trial, latent, sought in zip(trials, latents, counts, strict=True):
        shown = trial if sought else {**trial, "observations": _of_fidelity(trial)}
        _add(client, problem, shown, _point(campaign, trial, latent))
    return client


def _parameters(
    campaign: Campaign,
    problem: Problem,
    latents: Sequence[Sequence[float]],
    designs: Sequence[Mapping[str, Any]],
) -> list[RangeParameterConfig | ChoiceParameterConfig]:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    import loop.space

    widest = max((abs(x) for z in latents for x in z), default=0.0)
    bound = max(_LATENT_BOUND, 1.05 * widest)
    prefix = _prefix(campaign)
    made: list[RangeParameterConfig | ChoiceParameterConfig] = [
        RangeParameterConfig(f"{prefix}{i}", (-bound, bound), "float")
        for i in range(len(latents[0]) if latents else 0)
    ]
    for axis in problem.space.axes:
        kind = campaign.spec.space[axis.name]
        if isinstance(kind, LatentAxis):
            continue
        if isinstance(kind, PoolAxis | CompositionAxis):
            made += _of_parts(axis.name, kind, designs)
        elif isinstance(axis, loop.space.RangeAxis):
            # The trials of a wider space, before it was narrowed, are in it too.
            values = [design[axis.name] for design in designs]
            made.append(
                RangeParameterConfig(
                    axis.name,
                    (min([axis.low, *values]), max([axis.high, *values])),
                    "int" if axis.integer else "float",
                    scaling="log" if axis.log else "linear",
                )
            )
        elif isinstance(axis, loop.space.ChoiceAxis):
            typed, choices = _choice(axis.values + axis.retired)
            made.append(ChoiceParameterConfig(axis.name, choices, typed, is_ordered=False))
    if not made:
        raise MatloopError(
            "an Ax experiment needs parameters",
            where=campaign.name,
            why="the campaign has no trial yet, so that its latent space is not known",
            unchanged="nothing was written",
            hint="propose or run first",
        )
    return made


def _of_parts(
    name: str, kind: PoolAxis | CompositionAxis, designs: Sequence[Mapping[str, Any]]
) -> list[RangeParameterConfig | ChoiceParameterConfig]:
    """A parameter for each ingredient, or for each column that the trials' rows have."""
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if isinstance(kind, CompositionAxis):
        every = kind.composition + kind.retired
        return [RangeParameterConfig(part_name(name, i), (0.0, kind.total), "float") for i in every]
    made: list[RangeParameterConfig | ChoiceParameterConfig] = []
    rows = [design[name] for design in designs]
    for column in dict.fromkeys(c for row in rows for c in row if c != "row"):
        values = sorted({row[column] for row in rows if column in row})
        told = part_name(name, column)
        if isinstance(values[0], str):
            known = values if len(values) > 1 else [*values, f"not {values[0]}"]
            made.append(ChoiceParameterConfig(told, known, "str", is_ordered=False))
        else:
            low, high = values[0], values[-1]
            made.append(
                RangeParameterConfig(told, (low, high if high > low else low + 1.0), "float")
            )
    return made


def part_name(axis: str, part: str) -> str:
    """The name of an ingredient or a column as Ax may have it: `alloy_Fe`."""
    return f"{axis}_{re.sub('[^A-Za-z0-9_]+', '_', part)}"


def _unsaid(campaign: Campaign) -> list[str]:
    """What of the space Ax cannot be told."""
    said: list[str] = []
    for name, axis in campaign.spec.space.items():
        if isinstance(axis, CompositionAxis):
            most = f", at most {axis.at_most} of them" if axis.at_most else ""
            said.append(f"that the ingredients of {name} add up to {axis.total:g}{most}")
        elif isinstance(axis, PoolAxis):
            said.append(f"that {name} is a row of {axis.pool}")
        elif isinstance(axis, LatentAxis):
            said.append(
                f"{name} itself, only its latent vector {_prefix(campaign)}0, ..., of which "
                f"the generator {axis.latent} makes it"
            )
    return said


def _limits(
    campaign: Campaign, designs: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Constraints on parameters as Ax takes them, and those that it does not.

    Ax knows inequalities between ranges with a linear scale, and refuses a trial outside of one.
    """
    linear = {
        name
        for name, axis in campaign.spec.space.items()
        if isinstance(axis, RangeAxis) and not axis.log and _ax_name(name) == name
    }
    said, unsaid = [], []
    for ours, op, bound, text in campaign.spec.parameter_sums():
        sign = 1.0 if op == "<=" else -1.0
        if (
            op != "=="
            and set(ours) <= linear
            and all(
                sign * (sum(c * design[n] for n, c in ours.items()) - bound) <= 1e-9
                for design in designs
            )
        ):
            said.append(f"{' + '.join(f'{c!r}*{n}' for n, c in ours.items())} {op} {bound!r}")
        else:
            unsaid.append(f"that {text}")
    return said, unsaid


def _choice(values: Sequence[Any]) -> tuple[Any, Any]:
    if all(isinstance(v, str) for v in values):
        return "str", list(values)
    if all(isinstance(v, int) for v in values):
        return "int", list(values)
    return "float", [float(v) for v in values]


def _goals(problem: Problem) -> tuple[str, list[str], list[str]]:
    """The objective, the constraints, and what of the goals cannot be said to Ax."""
    several = len(problem.objectives) > 1
    up: dict[str, bool] = {}  # whether an objective is to be made large, by its name in Ax
    bounds: dict[tuple[str, str], float] = {}
    dropped: list[str] = []
    wanted = [(_ax_name(c.metric), c.op, c.bound) for c in problem.constraints]
    for objective in problem.objectives:
        name = _distance(objective.metric) if objective.target is not None else objective.metric
        name = _ax_name(name)
        up[name] = objective.goal == "maximize"
        if objective.threshold is not None:
            wanted.append((name, ">=" if up[name] else "<=", objective.threshold))
    for name, op, value in wanted:
        # Ax bounds objectives only among several, and only on the side of their worse values.
        if name in up and not (several and (op == ">=") == up[name]):
            dropped.append(f"{name} {op} {value!r}")
            continue
        known = bounds.get((name, op))
        tighter = max if op == ">=" else min
        bounds[name, op] = value if known is None else tighter(known, value)
    objective_text = ", ".join(name if large else f"-{name}" for name, large in up.items())
    return objective_text, [f"{n} {op} {v!r}" for (n, op), v in bounds.items()], dropped


def _ax_name(metric: str) -> str:
    """A metric as Ax may name it: its expressions take no names that sympy knows, as `E`."""
    from ax.utils.common.string_utils import sanitize_name

    try:
        sanitize_name(metric, sanitize_parens=True)
    except ValueError:
        return f"{metric}_metric"
    return f"{metric}_metric" if keyword.iskeyword(metric) else metric


def _distance(metric: str) -> str:
    return f"{metric}_from_target"


def _prefix(campaign: Campaign) -> str:
    taken = any(name.startswith("z_") for name in campaign.spec.space)
    return "latent_z_" if taken else "z_"


def _latents(campaign: Campaign, trials: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """The latent vector of each trial; empty without a latent axis."""
    if not any(hasattr(axis, "latent") for axis in campaign.spec.space.values()):
        return [[] for _ in trials]
    known = [trial["provenance"].get("latent") for trial in trials]
    if any(z is None for z in known):
        space = campaign.problem.space
        missing = [t["design"] for t, z in zip(trials, known, strict=True) if z is None]
        encoded = iter(space.latent([campaign.design(design) for design in missing]).tolist())
        return [next(encoded) if z is None else z for z in known]
    return known


def _point(
    campaign: Campaign, trial: Mapping[str, Any], latent: Sequence[float]
) -> dict[str, float | int | str]:
    prefix = _prefix(campaign)
    point: dict[str, float | int | str] = {f"{prefix}{i}": x for i, x in enumerate(latent)}
    design = in_space(campaign.spec, trial["design"])
    for axis in campaign.goals.space.axes:
        kind = campaign.spec.space[axis.name]
        if isinstance(kind, PoolAxis | CompositionAxis):
            parts = dict.fromkeys(getattr(kind, "composition", ()), 0.0) | dict(design[axis.name])
            point |= {part_name(axis.name, k): v for k, v in parts.items() if k != "row"}
        elif not isinstance(kind, LatentAxis):
            value = design[axis.name]
            kinds = {type(v) for v in getattr(axis, "values", ())}
            point[axis.name] = float(value) if kinds == {int, float} else value
    return point


def _add(
    client: Client, problem: Problem, trial: Mapping[str, Any], point: dict[str, float | int | str]
) -> None:
    from ax.core.arm import Arm
    from ax.core.generator_run import GeneratorRun

    told = trial["provenance"]
    arm = Arm(parameters=dict(point), name=f"{trial['trial']} {trial['name']}")
    # Two trials of one design are two trials of one arm.
    arm = client._experiment.arms_by_signature.get(arm.signature, arm)
    run = GeneratorRun(
        arms=[arm],
        generator_key=f"matloop {told.get('method')}",
        gen_metadata={k: told.get(k) for k in ("seed", "generators", "software")},
        candidate_metadata_by_arm_signature={
            arm.signature: {
                k: told.get(k) for k in ("name", "acquisition", "prediction", "feasibility")
            }
        },
    )
    new = client._experiment.new_trial(generator_run=run)
    new.update_run_metadata(
        {
            "design": trial["design"],
            "observations": trial["observations"],
            "failure": trial["failure"],
            "created": trial["created"],
            "ended": trial["ended"],
        }
    )
    status = trial["status"]
    if status == "abandoned":
        new.mark_abandoned(reason=trial["failure"])
    elif status != "candidate":
        new.mark_running(no_runner_required=True)
        if status in FAILED:
            new.mark_failed(reason=trial["failure"])
        elif status == "completed":
            client.complete_trial(new.index, _data(problem, trial["observations"]))


def _of_fidelity(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Observations that are not of what is sought, under names of their own."""
    at = re.sub(r"\W", "_", trial["fidelity"] or "lower_fidelity")
    return {f"{metric}_at_{at}": told for metric, told in trial["observations"].items()}


def _data(
    problem: Problem, observations: Mapping[str, Mapping[str, Any]]
) -> dict[str, float | tuple[float, float]]:
    measured = {m: (o["mean"], o["sem"]) for m, o in observations.items()}
    for objective in problem.objectives:
        if objective.target is not None and objective.metric in measured:
            mean, sem = measured[objective.metric]
            measured[_distance(objective.metric)] = (abs(mean - objective.target), sem)
    return {
        _ax_name(m): mean if sem is None else (mean, sem) for m, (mean, sem) in measured.items()
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ax from telling of every trial, and of its own old module paths."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
