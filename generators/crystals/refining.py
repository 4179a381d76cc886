"""Latent vectors that are decoded to the crystal they were encoded from.

An encoder says in one pass where a crystal lies, for all crystals by one rule; of some the decoder
wants it a little elsewhere. So the vectors of crystals that would not come back are moved up the
decoder's own likelihood of the crystal, held to where the encoder put them, and stop as soon as
they would (semi-amortised inference: Kim et al., ICML 2018). No weight changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generators.crystals.network import CrystalNetwork
from generators.crystals.tokens import NO_POSITION, Tokens

STEPS = 30
_RATE = 0.5  # of a step, in standard deviations of the posterior
_HOLD = 0.003  # nats that a squared deviation from the encoder's vector costs
_DECAY = (0.9, 0.99)
_LEAST = 0.001  # nats a deviation: a slope below it is rounding, and must not become a step
_BATCH = 256
# Group, positions and elements count in nats; free coordinates and the lattice, which are squared
# errors, so much more that they are worth some nats where they are off by what a matcher sees.
_WEIGHTS = {"group": 1.0, "site": 1.0, "element": 1.0, "free": 20.0, "lattice": 5.0}
_LIKELY = 0.3  # nats below which the greedy choice of group, positions and elements is theirs
_FREE = 0.01  # sum over coordinates of 1 - cos(error)
_LATTICE = 0.02  # squared error of the standardised lattice


def refine(network: CrystalNetwork, tokens: Tokens, steps: int = STEPS) -> Tensor:
    """Latent vectors `n x latent` (on the network's device) of crystals.

    Args:
        network: In evaluation mode.
        tokens: The crystals, on the network's device.
        steps: At most; of none, the encoder's vectors.
    """
    out = torch.zeros(len(tokens), network.size.latent, device=tokens.group.device)
    order = (tokens.position != NO_POSITION).sum(1).argsort(stable=True)  # little padding
    for part in order.split(_BATCH) if len(order) else ():
        out[part] = _refined(network, tokens[part].trimmed(), steps)
    return out


def _refined(network: CrystalNetwork, tokens: Tokens, steps: int) -> Tensor:
    with torch.no_grad():
        mean, log_variance = network.encode(tokens)
    spread = (0.5 * log_variance).exp()
    out = mean.clone()
    live = torch.arange(len(tokens), device=mean.device)
    # Adam's, kept by hand so that what is done can be left out
    moved, slope, square = (torch.zeros_like(mean) for _ in range(3))
    for step in range(1, steps + 1):
        with torch.enable_grad():
            away = moved[live].requires_grad_(True)
            losses = network.losses(tokens[live].trimmed(), mean[live] + spread[live] * away)
            total = sum((weight * losses[name]).sum() for name, weight in _WEIGHTS.items())
            (gradient,) = torch.autograd.grad(total + _HOLD * away.square().sum(), away)
        open_ = (
            (losses["group"] + losses["site"] + losses["element"] >= _LIKELY)
            | (losses["free"] >= _FREE)
            | (losses["lattice"] >= _LATTICE)
        )
        live, gradient = live[open_], gradient[open_]
        if not len(live):
            break
        slope[live] = torch.lerp(gradient, slope[live], _DECAY[0])
        square[live] = torch.lerp(gradient.square(), square[live], _DECAY[1])
        pace = (square[live] / (1 - _DECAY[1] ** step)).sqrt() + _LEAST
        moved[live] -= _RATE * slope[live] / (1 - _DECAY[0] ** step) / pace
        out[live] = mean[live] + spread[live] * moved[live]
    return out
