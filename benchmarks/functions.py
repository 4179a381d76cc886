"""Test functions without noise, and Ax's default client on them: what the timings share."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.test_functions import DTLZ2, ZDT1, Ackley, Hartmann, Levy
from botorch.utils.multi_objective.hypervolume import Hypervolume

from loop.problem import Objective, Problem
from loop.proposal import History
from loop.space import Design, DesignSpace, LinearConstraint, RangeAxis

LIMIT = LinearConstraint({"x0": 1.0, "x1": 1.0, "x2": 1.0}, "<=", 1.2)


@dataclass(frozen=True)
class Function:
    """A function of d numbers between 0 and 1, all of whose outcomes are to be small.

    Attributes:
        name: one of hartmann6 (the other inputs do nothing), ackley, levy, dtlz2, zdt1.
        d: inputs.
        limited: whether x0 + x1 + x2 <= 1.2.
    """

    name: str
    d: int
    limited: bool = False

    @property
    def m(self) -> int:
        """Outcomes."""
        return 2 if self.name in ("dtlz2", "zdt1") else 1

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Outcomes of n x d inputs: n x m."""
        x = torch.as_tensor(X, dtype=torch.float64)
        if self.name == "hartmann6":
            y = Hartmann(6)(x[:, :6])
        elif self.name == "ackley":
            y = Ackley(self.d)(15.0 * x - 5.0)
        elif self.name == "levy":
            y = Levy(self.d)(20.0 * x - 10.0)
        elif self.name == "dtlz2":
            y = DTLZ2(self.d, num_objectives=2)(x)
        else:
            y = ZDT1(self.d)(x)
        return y.double().reshape(len(x), -1).numpy()

    @property
    def problem(self) -> Problem:
        """As matloop is asked."""
        axes = tuple(RangeAxis(f"x{i}", 0.0, 1.0) for i in range(self.d))
        space = DesignSpace(axes, (LIMIT,) if self.limited else ())
        goals = tuple(Objective(f"y{j}", "minimize", "dimensionless") for j in range(self.m))
        return Problem(space, goals)

    def draw(self, n: int, seed: int) -> np.ndarray:
        """N allowed inputs, uniform: n x d."""
        return self.problem.space.prior(n, np.random.default_rng(seed))

    def loss(self, Y: np.ndarray) -> float:
        """Simple regret of n x 1 outcomes; the share of the hypervolume that n x 2 lack."""
        if self.m == 1:
            least = -3.32237 if self.name == "hartmann6" else 0.0
            return float(Y.min()) - least
        corner = torch.tensor([2.5, 2.5] if self.name == "dtlz2" else [1.1, 6.0]).double()
        most = 2.5**2 - np.pi / 4 if self.name == "dtlz2" else 1.1 * 6.0 - 1.0 / 3.0
        return 1.0 - float(Hypervolume(-corner).compute(-torch.as_tensor(Y))) / most


def history(problem: Problem, X: np.ndarray, Y: np.ndarray) -> History:
    """Completed trials, as matloop is told of them."""
    designs: list[Design] = [d for d in problem.space.decode(X) if d is not None]
    return History(designs, Y, np.full(Y.shape, np.nan), np.zeros(len(Y), dtype=bool))


class AxClient:
    """Ax's client with its defaults (method "fast") and all proposals from its model."""

    def __init__(self, function: Function, X: np.ndarray, Y: np.ndarray, seed: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig

        for name in ("ax", "ax.api.client"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        self._d = function.d
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            parameters=[
                RangeParameterConfig(name=f"x{i}", bounds=(0.0, 1.0), parameter_type="float")
                for i in range(function.d)
            ],
            parameter_constraints=["x0 + x1 + x2 <= 1.2"] if function.limited else None,
        )
        self._client.configure_optimization(", ".join(f"-y{j}" for j in range(function.m)))
        # By default it would draw one more design by Sobol before it asks its model.
        self._client.configure_generation_strategy(
            method="fast", initialization_budget=0, initialize_with_center=False
        )
        for x, y in zip(X, Y, strict=True):
            self._tell(self._client.attach_trial(self._parameters(x)), y)

    def _parameters(self, x: np.ndarray) -> dict[str, Any]:
        return {f"x{i}": float(v) for i, v in enumerate(x)}

    def _tell(self, trial: int, y: np.ndarray) -> None:
        self._client.complete_trial(trial, raw_data={f"y{j}": float(v) for j, v in enumerate(y)})

    def propose(self, q: int) -> np.ndarray:
        """The next q designs: q x d.

        Raises:
            RuntimeError: one was not made by the model.
        """
        self._asked = self._client.get_next_trials(q)
        for trial in self._asked:
            run = self._client._experiment.trials[trial].generator_runs[0]
            if run._generation_node_name != "MBM":
                raise RuntimeError(f"Ax proposed a design by {run._generation_node_name}")
        return np.array([[p[f"x{i}"] for i in range(self._d)] for p in self._asked.values()])

    def tell(self, Y: np.ndarray) -> None:
        """Outcomes of the last proposal: q x m."""
        for trial, y in zip(self._asked, Y, strict=True):
            self._tell(trial, y)
