"""How far a latent vector is from what the generator knows, as a chance.

The mixture of the learnt prior has a density, and a vector of low density is far from the crystals
that the generator knows. Density alone is a poor measure in many dimensions (Nalisnick et al., ICLR
2019), so it is calibrated, with the distance from the nearest component and the norm, by logistic
regression (Platt 1999), to the chance that the vector decodes to a valid crystal whose own vector
is near: no farther than a third of what lies between two draws of the normal prior, `sqrt(2 d)`.
Squared terms may only take away, so that far beyond all it was fitted to the chance is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.crystals.prior import FittedPrior

if TYPE_CHECKING:
    from generators.crystals.generator import CrystalGenerator

Array = NDArray[np.float64]

NEAR = 1 / 3  # of the distance between two draws of the normal prior
_KINDS = 4
_BINS = 10


def strangeness(prior: FittedPrior, z: Tensor) -> Array:
    """What the chance is told by, of latent vectors `n x d`: `n x 3`."""
    norm = z.double().norm(dim=1, keepdim=True)
    return np.asarray(torch.cat([prior.surprise(z), norm], 1))


def chance(prior: FittedPrior, z: Tensor) -> Array:
    """The calibrated chance, `n` in [0, 1], of latent vectors `n x d` of the network.

    Raises:
        ValueError: The prior was not calibrated.
    """
    told = prior.told.get("familiarity")
    if told is None:
        raise ValueError("the learnt prior of this generator has no calibration")
    if not len(z):
        return np.zeros(0)
    return _logistic(told, strangeness(prior, z))


def _logistic(told: Mapping[str, Any], x: Array) -> Array:
    scaled = (x - np.array(told["mean"])) / np.array(told["scale"])
    return np.asarray(1 / (1 + np.exp(-(_terms(scaled) @ told["weights"] + told["bias"]))))


def _terms(x: Array) -> Array:
    return np.concatenate([x, x**2], 1)


def _fitted(terms: Array, true: NDArray[np.bool_]) -> tuple[Array, float]:
    """Weights and bias of the regression, with a unit normal prior on the weights."""
    from scipy.optimize import minimize
    from scipy.special import expit

    sign = np.where(true, 1.0, -1.0)
    design = np.concatenate([terms, np.ones((len(terms), 1))], 1)

    def loss(w: Array) -> tuple[float, Array]:
        margin = sign * (design @ w)
        slope = design.T @ (-sign * expit(-margin))
        kept = np.append(w[:-1], 0.0)
        return float(np.logaddexp(0, -margin).sum() + 0.5 * kept @ kept), slope + kept

    squared = terms.shape[1] // 2
    bounds = [(None, None)] * squared + [(None, -0.01)] * squared + [(None, None)]
    w = minimize(loss, np.zeros(design.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return w[:-1], float(w[-1])


def calibrate(
    generator: CrystalGenerator, known: Tensor, n: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Fit the chance, and measure it on vectors that it was not fitted to.

    Vectors are, a quarter each, draws from the normal and from the learnt prior, moves from
    crystals by steps of all lengths, and crosses of crystals: what a search looks at.

    Args:
        generator: With a learnt prior.
        known: Latent vectors `m x d` of crystals that training never saw.
        n: How many vectors.
        seed: Of the draws.

    Returns:
        What `chance` needs, and with it `auc` and `error`: the mean difference of the chance and
        the share of successes, over tenths of the vectors; on a half that was not fitted to.
    """
    from sklearn.metrics import roc_auc_score

    prior = generator.learnt_prior
    assert prior is not None
    rng = np.random.default_rng(seed)
    size = n // _KINDS
    near, other = (known[rng.integers(len(known), size=size)].numpy() for _ in range(2))
    z = torch.cat(
        [
            torch.tensor(rng.standard_normal((size, generator.dim))),
            prior.draw(size, torch.Generator().manual_seed(seed)),
            torch.tensor(generator.move(near, rng.random(size) * 0.9, rng)),
            torch.tensor(generator.cross(near, other, rng)),
        ]
    )
    back = generator.away(z) <= NEAR * math.sqrt(2 * generator.dim)
    x = strangeness(prior, z)
    mean, scale = x.mean(0), x.std(0) + 1e-9
    terms = _terms((x - mean) / scale)
    fitted_to = np.arange(len(z)) % 2 == 0
    weights, bias = _fitted(terms[fitted_to], back[fitted_to])
    told: dict[str, Any] = {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "weights": weights.tolist(),
        "bias": bias,
    }
    rest = ~fitted_to
    said, true = _logistic(told, x[rest]), back[rest]
    order = np.array_split(np.argsort(said), _BINS)
    table = [[round(float(said[i].mean()), 3), round(float(true[i].mean()), 3)] for i in order]
    return told | {
        "calibration": table,
        "error": float(np.mean([abs(a - b) for a, b in table])),
        "auc": float(roc_auc_score(true, said)),
        "vectors": int(rest.sum()),
        "come_back": float(back.mean()),
    }
