"""What Ax's analyses say of an experiment, as plain JSON: a table of trials, then cards.

A card is what Ax calls one: a figure of plotly's, a table, or a text. An analysis that cannot be
made says why, and the others go on. Nothing of Ax's HTML is used: each of its cards would carry
the whole of plotly.js.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from campaigns.ax_figures import fitted

if TYPE_CHECKING:
    import pandas as pd
    from ax.adapter.base import Adapter
    from ax.analysis.analysis import Analysis
    from ax.core.experiment import Experiment
    from ax.generation_strategy.generation_strategy import GenerationStrategy

MOST_ARMS: Final = 300
"""Arms that cards are made of at most, the latest: Ax draws a trace for each."""

MOST_ROWS: Final = 1000
"""Rows of a table that are kept at most, the latest."""

_SURFACES: Final = 10
"""Parameters up to which slices are drawn, ..."""
_PAIRS: Final = 3
"""... and up to which each pair of them is looked at, whose number grows as their square."""


@dataclass(frozen=True)
class Wanted:
    """An analysis to make.

    Attributes:
        key: Names it among the others.
        group: Under which heading it stands.
        title: What it will show, in a few words.
        make: Makes the analysis.
        model: Whether it asks a model.
    """

    key: str
    group: str
    title: str
    make: Callable[[], Analysis]
    model: bool = False


def describe(experiment: Experiment) -> dict[str, Any]:
    """The experiment in words and numbers: name, objectives, constraints, parameters, trials."""
    config = experiment.optimization_config
    objectives: list[dict[str, Any]] = []
    constraints: list[str] = []
    if config is not None:
        for name, weight in config.objective.metric_weights:
            objectives.append({"metric": name, "goal": "maximize" if weight > 0 else "minimize"})
        constraints = [_bound(c) for c in config.all_constraints]
    trials = experiment.trials
    by_status: dict[str, int] = {}
    for trial in trials.values():
        status = trial.status.name.lower()
        by_status[status] = by_status.get(status, 0) + 1
    return {
        "name": experiment.name if experiment.has_name else "unnamed experiment",
        "description": experiment.description or "",
        "created": experiment.time_created.astimezone(UTC).isoformat(),
        "objectives": objectives,
        "constraints": constraints,
        "parameters": [
            {"name": p.name, "domain": _domain(p)}
            for p in experiment.search_space.parameters.values()
        ],
        "parameter_constraints": [str(c) for c in experiment.search_space.parameter_constraints],
        "trials": len(trials),
        "arms": len(experiment.arms_by_name),
        "by_status": by_status,
        "table": _trials(experiment),
    }


def plan(experiment: Experiment) -> list[Wanted]:
    """The analyses that suit an experiment, the cheap ones first."""
    from ax.analysis.best_trials import BestTrials
    from ax.analysis.healthcheck import constraints_feasibility, metric_fetching_errors
    from ax.analysis.healthcheck.predictable_metrics import PredictableMetricsAnalysis
    from ax.analysis.plotly import (
        ArmEffectsPlot,
        CrossValidationPlot,
        ParallelCoordinatesPlot,
        ScatterPlot,
        UtilityProgressionAnalysis,
    )
    from ax.analysis.search_space_summary import SearchSpaceSummary

    config = experiment.optimization_config
    wanted = [Wanted("search-space", "Experiment", "Search space", SearchSpaceSummary)]
    if config is None:
        return wanted
    goals = list(config.objective.metric_names)
    metrics = list(
        dict.fromkeys([*goals, *(m for c in config.outcome_constraints for m in c.metric_names)])
    )
    results, insights, checks = "Results", "Insights", "Diagnostics"
    wanted += [
        Wanted("best", results, "Best trials", BestTrials),
        Wanted("progress", results, "Progress", UtilityProgressionAnalysis),
    ]
    for x, y in itertools.combinations(goals, 2):
        wanted.append(
            Wanted(
                f"scatter-{x}-{y}", results, f"{y} against {x}",
                lambda x=x, y=y: ScatterPlot(  # type: ignore[misc]
                    x, y, use_model_predictions=False, show_pareto_frontier=True
                ),
            )
        )  # fmt: skip
    for metric in metrics:
        wanted += [
            Wanted(
                f"observed-{metric}", results, f"{metric}, observed",
                lambda m=metric: ArmEffectsPlot(m, use_model_predictions=False),  # type: ignore[misc]
            ),
            Wanted(
                f"parallel-{metric}", results, f"Parallel coordinates of {metric}",
                lambda m=metric: ParallelCoordinatesPlot(m),  # type: ignore[misc]
            ),
        ]  # fmt: skip
    wanted += [
        Wanted(
            "fetching", checks, "Metric fetching",
            metric_fetching_errors.MetricFetchingErrorsAnalysis,
        ),
        Wanted(
            "cross-validation", checks, "Cross validation",
            lambda: CrossValidationPlot(metrics), model=True,
        ),
        Wanted(
            "predictable", checks, "Predictable metrics", PredictableMetricsAnalysis, model=True
        ),
    ]  # fmt: skip
    if config.outcome_constraints:
        holds = constraints_feasibility.ConstraintsFeasibilityAnalysis
        wanted.append(Wanted("feasibility", checks, "Feasibility", holds, model=True))
    count = len(experiment.search_space.parameters)
    for metric in metrics:
        wanted += [
            Wanted(
                f"predicted-{metric}", insights, f"{metric}, modelled",
                lambda m=metric: ArmEffectsPlot(m), model=True,  # type: ignore[misc]
            ),
        ]  # fmt: skip
        # slices and contours begin with the sensitivities
        if count <= _SURFACES:
            key, title = "surfaces", f"Sensitivity, slices and contours of {metric}"
            make = _surfaces(metric, pairs=count <= _PAIRS)
        else:
            key, title, make = "sensitivity", f"Sensitivity of {metric}", _sensitivity(metric)
        wanted.append(Wanted(f"{key}-{metric}", insights, title, make, model=True))
    return wanted


def _surfaces(metric: str, pairs: bool) -> Callable[[], Analysis]:
    from ax.analysis.plotly import TopSurfacesAnalysis

    return lambda: TopSurfacesAnalysis(metric, order="second" if pairs else "total", top_k=2)


def _sensitivity(metric: str) -> Callable[[], Analysis]:
    from ax.analysis.plotly import SensitivityAnalysisPlot

    return lambda: SensitivityAnalysisPlot(metric)


@dataclass
class Cards:
    """The cards of one experiment, made one after the other.

    Args:
        experiment: Of more than `MOST_ARMS` arms the latest are taken.
        strategy: By whose model the cards are made; where it has none yet, by Ax's usual one.
    """

    experiment: Experiment
    strategy: GenerationStrategy | None = None
    capped: int = 0
    _adapter: Adapter | None = None
    _no_adapter: str = ""

    def __post_init__(self) -> None:
        self.capped = max(0, len(self.experiment.arms_by_name) - MOST_ARMS)
        if self.capped:
            kept: list[int] = []
            arms = 0
            for index in sorted(self.experiment.trials, reverse=True):
                arms += len(self.experiment.trials[index].arms)
                if arms > MOST_ARMS and kept:
                    break
                kept.append(index)
            self.experiment = self.experiment.clone_with(
                name=self.experiment.name if self.experiment.has_name else "unnamed",
                trial_indices=sorted(kept),
            )
            self.strategy = None  # it knows the trials by other numbers

    def make(self, wanted: Wanted) -> dict[str, Any]:
        """One analysis: its cards, or why there are none.

        Returns:
            ``key``, ``group``, ``title``, ``cards`` (each with ``title``, ``subtitle``, ``kind``
            and ``figure``, ``table`` or ``text``), ``reason`` where there is none, ``seconds``.
        """
        begun = time.monotonic()
        told: dict[str, Any] = {
            "key": wanted.key, "group": wanted.group, "title": wanted.title, "cards": [],
            "reason": "",
        }  # fmt: skip
        try:
            adapter = self._model() if wanted.model else None
            if wanted.model and adapter is None:
                told["reason"] = self._no_adapter
            else:
                card = wanted.make().compute_or_error_card(
                    experiment=self.experiment,
                    generation_strategy=self.strategy,
                    adapter=adapter,
                )
                found = [_card(leaf) for leaf in card.flatten()]
                told["cards"] = [c for c in found if c["kind"] not in ("none", "skipped")]
                reasons = [c["text"] for c in found if c["kind"] == "none"]
                told["reason"] = reasons[0] if reasons and not told["cards"] else ""
        # Whatever an analysis of Ax's stumbles over is shown in its place.
        except Exception as error:
            told["reason"] = _first_line(f"{type(error).__name__}: {error}")
        told["seconds"] = round(time.monotonic() - begun, 2)
        return told

    def _model(self) -> Adapter | None:
        """The model that the experiment goes on with, fitted; else Ax's usual one."""
        if self._adapter is None and not self._no_adapter:
            try:
                self._adapter = self._of_strategy() or self._usual()
            except Exception as error:
                self._no_adapter = _first_line(f"no model could be fitted: {error}")
        return self._adapter

    def _of_strategy(self) -> Adapter | None:
        from ax.adapter.torch import TorchAdapter

        if self.strategy is None:
            return None
        try:
            found = self.strategy.adapter or self.strategy.fit(experiment=self.experiment)
        except Exception:  # it may not have come to a model yet; the usual one is tried then
            return None
        return found if isinstance(found, TorchAdapter) else None

    def _usual(self) -> Adapter:
        from ax.adapter.registry import Generators

        return Generators.BOTORCH_MODULAR(experiment=self.experiment)


def _card(card: Any) -> dict[str, Any]:
    from ax.analysis.graphviz.graphviz_analysis import GraphvizAnalysisCard
    from ax.analysis.healthcheck.healthcheck_analysis import HealthcheckAnalysisCard
    from ax.analysis.markdown.markdown_analysis import MarkdownAnalysisCard
    from ax.analysis.plotly.plotly_analysis import PlotlyAnalysisCard
    from ax.core.analysis_card import ErrorAnalysisCard, NotApplicableStateAnalysisCard

    told: dict[str, Any] = {"title": card.title, "subtitle": card.subtitle or ""}
    if isinstance(card, NotApplicableStateAnalysisCard):
        return told | {"kind": "none", "text": _first_line(card.blob)}
    if isinstance(card, ErrorAnalysisCard):
        return told | {"kind": "none", "text": _first_line(card.subtitle or card.title)}
    if isinstance(card, GraphvizAnalysisCard):
        return told | {"kind": "skipped"}
    if isinstance(card, PlotlyAnalysisCard):
        figure = fitted(card.blob)
        if [trace["type"] for trace in figure["data"]] == ["table"]:
            return told | {"kind": "table", "table": table_json(card.df)}
        return told | {"kind": "figure", "figure": figure}
    if isinstance(card, MarkdownAnalysisCard):
        return told | {"kind": "text", "text": card.blob}
    if isinstance(card, HealthcheckAnalysisCard):
        return told | {"kind": "check", "status": card.get_status().name.lower()}
    return told | {"kind": "table", "table": table_json(card.df)}


def table_json(df: pd.DataFrame) -> dict[str, Any]:
    """A data frame as columns and rows; of many rows, the latest."""
    shown = df.tail(MOST_ROWS)
    rows = [[_value(v) for v in row] for row in shown.itertuples(index=False, name=None)]
    return {"columns": [str(c) for c in df.columns], "rows": rows, "of": len(df)}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):
        return _value(value.item())
    return str(value)


def _trials(experiment: Experiment) -> dict[str, Any]:
    if not experiment.trials:
        return {"columns": [], "rows": [], "of": 0}
    return table_json(experiment.to_df(omit_empty_columns=True))


def _bound(constraint: Any) -> str:
    sign = {"LEQ": "<=", "GEQ": ">="}.get(constraint.op.name, constraint.op.name)
    return f"{' + '.join(constraint.metric_names)} {sign} {constraint.bound:g}"


def _domain(parameter: Any) -> str:
    for low, high in ((getattr(parameter, "lower", None), getattr(parameter, "upper", None)),):
        if low is not None and high is not None:
            log = ", log scale" if getattr(parameter, "log_scale", False) else ""
            return f"{low:g} to {high:g}{log}"
    values = getattr(parameter, "values", None)
    if values is not None:
        shown = ", ".join(str(v) for v in values[:12])
        return shown + (f", … ({len(values)})" if len(values) > 12 else "")
    return str(getattr(parameter, "value", ""))


def _first_line(text: str) -> str:
    line = next((part.strip() for part in text.splitlines() if part.strip()), "no reason was given")
    return line[:400]


def stamp() -> str:
    """The time, as the pages have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def waiting(wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """What will be made, before it is."""
    return [{"key": w.key, "group": w.group, "title": w.title, "state": "waiting"} for w in wanted]
