"""Ax, choosing among given designs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from loop.backtest.parameters import Category
from loop.backtest.replay import Choice, Prediction
from loop.peers.base import Peer, quiet
from loop.problem import Objective, Problem
from loop.proposal import History
from loop.space import Design


class Ax(Peer):
    """Ax (`ax.api.client.Client`) with the generation strategy that it chooses itself.

    All that was measured is attached as trials, with standard errors where they are known. Ax fits
    its own surrogate and builds its own acquisition function; the batch comes from its own greedy
    choice in a candidate set, which evaluates all rows that are left in one go and counts those
    chosen before as pending (what its maintainers point to in Ax#3671, without their overhead for
    each candidate). Ranges and the ingredients of compositions are range parameters, choices are
    unordered choice parameters. Bounds on metrics are its outcome constraints; the distance from a
    target is a metric to minimise.
    """

    def __init__(self, problem: Problem, designs: Sequence[Design]) -> None:
        super().__init__(problem, designs)
        with quiet():
            from ax.api.client import Client
            from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

            self._keys = {p.name: f"p{i}" for i, p in enumerate(self._parameters)}
            self._client = Client(random_seed=0)
            configs: list[Any] = []
            for p in self._parameters:
                key = self._keys[p.name]
                if isinstance(p, Category):
                    configs.append(
                        ChoiceParameterConfig(
                            name=key,
                            values=list(p.values),
                            parameter_type="str",
                            is_ordered=False,
                        )
                    )
                else:
                    configs.append(
                        RangeParameterConfig(
                            name=key,
                            bounds=(p.low, p.high),
                            parameter_type="int" if p.integer else "float",
                            scaling="log" if p.log else "linear",
                        )
                    )
            self._client.configure_experiment(parameters=configs, name="backtest")
            goals, bounds = self._goals()
            self._client.configure_optimization(objective=goals, outcome_constraints=bounds)
            self._client.configure_generation_strategy()
        self._pool: Any = None

    def _goals(self) -> tuple[str, list[str]]:
        """Objectives and constraints as Ax spells them; metrics are m0, m1, ..., bounds b0, ..."""
        parts, bounds = [], []
        several = len(self._problem.objectives) > 1
        for i, objective in enumerate(self._problem.objectives):
            large = objective.goal == "maximize"
            parts.append(f"m{i}" if large else f"-m{i}")
            if several and objective.threshold is not None:
                bounds.append(f"m{i} {'>=' if large else '<='} {objective.threshold!r}")
        bounds += [f"b{i} {c.op} {c.bound!r}" for i, c in enumerate(self._problem.constraints)]
        return ", ".join(parts), bounds

    def choose(self, history: History, left: Sequence[Design], n: int, seed: int) -> Choice:
        """The best n by Ax's acquisition function; at random while Ax would be initialising."""
        from ax.utils.common.random import with_rng_seed

        with quiet(), with_rng_seed(seed):
            for row, outcomes, sem in self._new(history):
                trial = self._client.attach_trial(self._named(row))
                self._client.complete_trial(trial, self._readings(outcomes, sem))
            experiment = self._client._experiment
            adapter: Any = self._client._generation_strategy.fit(experiment)
            if adapter is None or not adapter.can_predict:
                return self._random(left, n, seed, "Ax is still initialising")
            return self._choose(adapter, left, n)

    def _named(self, row: int) -> dict[str, Any]:
        return {self._keys[name]: value for name, value in self._rows[row].items()}

    def _readings(self, outcomes: np.ndarray, sem: np.ndarray) -> dict[str, Any]:
        metrics = self._problem.metrics
        told: dict[str, Any] = {}
        for i, objective in enumerate(self._problem.objectives):
            j = metrics.index(objective.metric)
            told[f"m{i}"] = _reading(_distance(objective, float(outcomes[j])), float(sem[j]))
        for i, constraint in enumerate(self._problem.constraints):
            j = metrics.index(constraint.metric)
            told[f"b{i}"] = _reading(float(outcomes[j]), float(sem[j]))
        return told

    def _choose(self, adapter: Any, left: Sequence[Design], n: int) -> Choice:
        from ax.core.observation import ObservationFeatures
        from ax.generators.torch.botorch_modular.utils import (
            construct_acquisition_and_optimizer_options,
        )

        # As `TorchAdapter._gen` and `BoTorchGenerator.gen` do, up to the optimiser.
        generator = adapter.generator
        base = adapter._get_transformed_gen_args(
            search_space=adapter._search_space, optimization_config=adapter._optimization_config
        )
        digest, config = adapter._get_transformed_model_gen_args(
            search_space=base.search_space,
            pending_observations=base.pending_observations,
            fixed_features=base.fixed_features or ObservationFeatures({}),
            model_gen_options=adapter._default_model_gen_options,
            optimization_config=base.optimization_config,
        )
        acq_options, botorch_options, _, classes = construct_acquisition_and_optimizer_options(
            acqf_options=generator.acquisition_options,
            botorch_acqf_options=generator._botorch_acqf_options,
            model_gen_options=config.model_gen_options,
            botorch_acqf_classes_with_options=generator._botorch_acqf_classes_with_options,
        )
        acquisition = generator._instantiate_acquisition(
            search_space_digest=digest,
            torch_opt_config=config,
            botorch_acqf_options=botorch_options,
            acq_options=acq_options,
            botorch_acqf_classes_with_options=classes,
            n=n,
        )
        places = [self._place[id(design)] for design in left]
        pool = self._tensor(adapter)[places]
        points, _, _ = acquisition.select_from_candidate_set(n=n, candidate_set=pool)
        rows: list[int] = []
        for point in points:
            same = (pool == point).all(dim=1).nonzero().flatten().tolist()
            rows.append(next(row for row in same if row not in rows))
        chosen = [places[row] for row in rows]
        name = type(acquisition.acqf).__name__
        return Choice(rows, lambda: self._predictions(adapter, chosen), [name])

    def _tensor(self, adapter: Any) -> Any:
        """The table as Ax's surrogate sees it, N x d: its transforms of inputs know no data."""
        if self._pool is None:
            from ax.adapter.adapter_utils import observation_features_to_array
            from ax.core.observation import ObservationFeatures

            features = [
                ObservationFeatures(parameters=self._named(row)) for row in range(len(self._rows))
            ]
            for transform in adapter.transforms.values():
                features = transform.transform_observation_features(features)
            array = observation_features_to_array(adapter.parameters, features)
            self._pool = adapter._array_to_tensor(array)
        return self._pool

    def _predictions(self, adapter: Any, places: Sequence[int]) -> list[dict[str, Prediction]]:
        """Its predictions, with noise and without, of metrics that are not a distance."""
        from ax.core.observation import ObservationFeatures

        features = [ObservationFeatures(parameters=self._named(place)) for place in places]
        with quiet():
            mean, latent = adapter.predict(features)
            _, noisy = adapter.predict(features, use_posterior_predictive=True)
        names = {
            **{c.metric: f"b{i}" for i, c in enumerate(self._problem.constraints)},
            **{
                o.metric: f"m{i}"
                for i, o in enumerate(self._problem.objectives)
                if o.target is None
            },
        }
        return [
            {
                metric: Prediction(
                    float(mean[name][k]),
                    math.sqrt(latent[name][name][k]),
                    math.sqrt(noisy[name][name][k]),
                )
                for metric, name in names.items()
            }
            for k in range(len(places))
        ]


def _distance(objective: Objective, y: float) -> float:
    """What a peer is to minimise for an objective with a target, else the outcome itself."""
    return y if objective.target is None else abs(y - objective.target)


def _reading(mean: float, sem: float) -> float | tuple[float, float]:
    return (mean, sem) if math.isfinite(sem) else mean
