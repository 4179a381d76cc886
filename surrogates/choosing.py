"""Which model of a metric: the one by which each outcome was best foretold by all the others.

Several recipes are fitted and compared by their leave-one-out log likelihood in the metric's unit
([Rasmussen2006]_, section 5.4.2; [Vehtari2017]_). The plain Gaussian process stays unless another
is better by more than chance would make it: two nats in all. The comparison is made anew whenever
the outcomes have grown by a quarter; in between the chosen recipe is refitted from where it was.

.. [Rasmussen2006] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning.
   MIT Press, 2006.
.. [Vehtari2017] A. Vehtari, A. Gelman and J. Gabry, Practical Bayesian Model Evaluation Using
   Leave-One-Out Cross-Validation and WAIC. Statistics and Computing 27, 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from surrogates.gaussian_process import (
    MetricModel,
    Outcomes,
    Recipe,
    Trend,
    fit_gaussian_process,
    identify_outliers,
)
from surrogates.warping import standardise, unskew

PLAIN = Recipe("gaussian process")
RECIPES = {
    recipe.name: recipe
    for recipe in (
        PLAIN,
        Recipe("warped gaussian process", warp=True),
        Recipe("smooth gaussian process", smoothness="rbf"),
        Recipe("smooth warped gaussian process", smoothness="rbf", warp=True),
        Recipe("sparse gaussian process", sparse=True),
        Recipe("additive gaussian process", additive=True),
        Recipe("random forest and gaussian process", forest=True),
    )
}

MARGIN = 2.0  # nats
GROWTH = 1.25
MIN_TO_CHOOSE = 8
MIN_FOR_FOREST = 30


def eligible(n: int, groups: int) -> list[Recipe]:
    """The recipes that n outcomes and so many groups of features can tell apart."""
    wanted = [PLAIN.name]
    if n >= MIN_TO_CHOOSE:
        wanted += ["warped gaussian process", "smooth gaussian process"]
    if n >= 12 and groups >= 10:
        wanted.append("sparse gaussian process")
    if n >= 16 and 3 <= groups <= 12:
        wanted.append("additive gaussian process")
    if n >= MIN_FOR_FOREST:
        wanted.append("random forest and gaussian process")
    return [RECIPES[name] for name in wanted]


def fit_metric(
    outcomes: Outcomes,
    *,
    warm: dict[str, Any] | None,
    max_iter: int,
    seed: int,
    recipes: list[Recipe] | None = None,
) -> MetricModel:
    """Fit a metric by the recipe that the data prefer.

    Args:
        outcomes: n >= 1 outcomes.
        warm: `state_of` an earlier model of the same metric.
        max_iter: cap on L-BFGS iterations of a fit.
        seed: of the forest, and of the sample that a large fit is made of.
        recipes: to choose from; by default those that are `eligible`.
    """
    here = outcomes.source == 0
    n = int(here.sum())
    given = recipes
    if recipes is None:
        recipes = eligible(n, max(outcomes.groups) + 1)
        settled = warm is not None and warm.get("recipe") in RECIPES
        if settled and warm is not None and n < GROWTH * warm.get("chosen_at", 0):
            recipes = [RECIPES[warm["recipe"]]]
    chosen_at = n if len(recipes) > 1 or warm is None else warm.get("chosen_at", n)

    best: MetricModel | None = None
    tried: dict[str, float] = {}
    for recipe in recipes:
        model = _fit(outcomes, recipe, warm=warm, max_iter=max_iter, seed=seed)
        if model is None:
            continue
        score = model.left_out.log_likelihood() * len(model.left_out.observed)
        tried[recipe.name] = score
        margin = MARGIN if given is None and best is not None and best.recipe == PLAIN else 0.0
        if best is None or score > tried[best.recipe.name] + margin:
            best = model
    if best is None:  # the recipe that was settled on cannot be fitted any more
        best = _fit(outcomes, PLAIN, warm=None, max_iter=max_iter, seed=seed)
        assert best is not None
    best = _robust(best, max_iter, seed)
    best.chosen_at, best.tried = chosen_at, tried
    return best


def _fit(
    outcomes: Outcomes, recipe: Recipe, *, warm: dict[str, Any] | None, max_iter: int, seed: int
) -> MetricModel | None:
    here = outcomes.y[outcomes.source == 0]
    warp = unskew(here) if recipe.warp else standardise(here)
    if warp is None:
        return None
    trend = None
    if recipe.forest:
        trend = _forest(outcomes, seed)
        if trend is None:
            return None
    return fit_gaussian_process(
        outcomes, recipe, warp, warm=warm, max_iter=max_iter, seed=seed, trend=trend
    )


def _robust(model: MetricModel, max_iter: int, seed: int) -> MetricModel:
    """Give readings that the others contradict more noise, where that explains the rest better.

    In the spirit of relevance pursuit (Ament et al., NeurIPS 2024), whose evidence has a price for
    every reading that is set aside: here the four nats of a normal tail at four deviations, and
    half the logarithm of the number of readings for the choice.
    """
    extra = identify_outliers(model)
    if extra is None or model.trend is not None:
        return model
    again = fit_gaussian_process(
        model.data, model.recipe, model.warp, warm=model.state(), max_iter=max_iter, seed=seed,
        outliers=extra,
    )  # fmt: skip
    count, of = int((extra > 0).sum()), len(model.left_out.observed)
    if again.evidence < model.evidence + count * (4.0 + 0.5 * np.log(of)):
        return model
    again.notes.append(f"{count} of {of} readings contradict the others and count for less")
    return again


def _forest(outcomes: Outcomes, seed: int) -> tuple[Trend, Tensor] | None:
    """A random forest as a mean, and what its trees foretold of outcomes they had not seen."""
    if int(outcomes.source.max()) > 0 or outcomes.guide is not None or len(outcomes.y) < 2:
        return None
    from sklearn.ensemble import RandomForestRegressor

    warp = standardise(outcomes.y)
    X, y = outcomes.X.cpu().numpy(), warp(outcomes.y).cpu().numpy()
    forest = RandomForestRegressor(100, oob_score=True, min_samples_leaf=2, random_state=seed)
    forest.fit(X, y)
    unseen = torch.as_tensor(forest.oob_prediction_).to(outcomes.y)

    def trend(at: Tensor) -> Tensor:
        flat = at.detach().reshape(-1, at.shape[-1]).cpu().numpy()
        return torch.as_tensor(forest.predict(flat)).to(at).reshape(at.shape[:-1])

    return trend, unseen
