"""Training an adapter: a teacher that knows the property, and the prior that follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.crystals.embedding import MatglEmbedding, PredictedProperties
from generators.fine_tuning.adapter import FittedAdapter, PriorAdapter, make
from generators.fine_tuning.guard import kind
from generators.fine_tuning.objective import Bent
from generators.fine_tuning.recipe import Array, Examined, FineTuneError, Recipe
from generators.fine_tuning.rewards import rewards
from generators.fine_tuning.teacher import MOST, Teacher

if TYPE_CHECKING:
    from generators.crystals.generator import CrystalGenerator
    from generators.crystals.prior import FittedPrior
    from generators.fine_tuning.tune import Known

_DREAMT = 2000  # draws of the prior that the teacher judges
_AIMED = 1000  # draws of where an adapter aims, in each round after the first
_TRIED = 200  # draws of each candidate for the aim
_ROUNDS = 3
_SEEN = 0.3  # share of a batch that is examined designs,
_AGAIN = 8  # each so often at most
_RARE = 0.02  # share of draws of the prior, the best, by which candidates for the aim are compared
_HEAD_STEPS = 300
_HEAD_RATE = 3e-3
_LEAST = 6  # designs with every metric
_TELLS = 0.1  # R2 below which a teacher of every metric knows too little to lead anywhere
_TOP = (0.005, 0.02, 0.1, 0.3)  # shares of draws whose mean values are an aim, boldest first
_GUIDANCE = (2.0, 1.0, 0.7, 0.5, 0.35, 0.25)
_GUESSES = 8  # of what would be measured


@dataclass(frozen=True)
class _Draws:
    """Draws that decode to a steady design, and what the teachers foretell of them.

    Attributes:
        z: Latent vectors, `n x d`.
        y: Standardised properties as they are expected, `n x p`.
        spread: Standard deviations of what would be measured, `n x p`.
        of: How many draws it took.
        kinds: How many of them differ, by `guard.kind`; 0: nobody counted.
    """

    z: Tensor
    y: Tensor
    spread: Tensor
    of: int
    kinds: int = 0

    def __add__(self, other: _Draws) -> _Draws:
        return _Draws(
            torch.cat([self.z, other.z]),
            torch.cat([self.y, other.y]),
            torch.cat([self.spread, other.spread]),
            self.of + other.of,
        )

    def __getitem__(self, index: Tensor) -> _Draws:
        return _Draws(self.z[index], self.y[index], self.spread[index], len(index))

    def measured(self, source: torch.Generator) -> Tensor:
        """What might be measured, `n x p`."""
        return self.y + self.spread * torch.randn(self.y.shape, generator=source)


def adapt(
    generator: CrystalGenerator,
    known: Known,
    recipe: Recipe,
    learn: Callable[[nn.Module, Any, int, int], None],
    unique: float = 0.0,
) -> tuple[list[FittedAdapter], dict[str, Any]]:
    """Fit an adapter to what was measured; the network stays as it is, to the bit.

    A teacher learns from the examined designs and foretells what would be measured of draws from
    the prior, with its doubt; the adapter learns from the teacher, so that few results reach far.
    Then it is drawn from where it aims, the teacher judges these draws, and it learns from them
    too: what is rare in the prior becomes well known (as in the cross-entropy method, Rubinstein
    1999). Since the doubt is learnt with the rest, draws for a wanted value are from wherever that
    value may be found, not from the one place where it is expected.

    Args:
        generator: The parent.
        known: What was examined.
        recipe: What is wanted.
        learn: Trains a module on the batches of a function, as the k-th of n trainings.
        unique: Share of draws that must differ. What promises most may be one crystal, drawn again
            and again.

    Returns:
        The same adapter with several aims, for whoever checks what each keeps: those whose draws
        differ enough first, and of these those that promise most; and what to say of the teacher.

    Raises:
        FineTuneError: Too few designs have all the metrics, or the generator has no learnt prior.
    """
    base = generator.without_adapter()
    prior = base.learnt_prior
    if prior is None:
        raise FineTuneError(
            f"this version of {generator.name} has no learnt prior, which an adapter would lead "
            "(matloop generators fit-prior makes one; the other methods need none)"
        )
    metrics = tuple(known.values)
    table = np.stack([known.values[m] for m in metrics], 1)
    rows = np.flatnonzero(np.isfinite(table).all(1) & ~known.failed)
    if len(rows) < _LEAST:
        raise FineTuneError(f"{len(rows)} designs with all of {', '.join(metrics)} are too few")
    mean, scale = table[rows].mean(0), table[rows].std(0)
    scale = np.where(scale > 0, scale, 1.0)
    y = (table[rows] - mean) / scale
    inputs = _Inputs(base, metrics, recipe.predicted)
    best = np.argsort(-known.reward[rows], kind="stable")[:MOST]
    x, foretold = inputs([known.designs[i] for i in rows[best]])
    teachers = [
        Teacher(x, column, base.dim, recipe.seed, told)
        for column, told in zip(y[best].T, foretold.T, strict=True)
    ]
    known_by = dict(zip(metrics, (round(teach.r2(), 3) for teach in teachers), strict=True))
    if max(known_by.values()) < _TELLS:
        told = ", ".join(f"{name} {r2:.2f}" for name, r2 in known_by.items())
        raise FineTuneError(
            f"{len(rows)} results tell nothing yet of where better designs are (R2, each foretold "
            f"from the others: {told})"
        )

    def draws(prior: FittedPrior, n: int, temperature: float | None = None) -> _Draws:
        """Of the whole of a prior, unless a temperature says otherwise."""
        z, designs = _steady(base, prior.draw(n, source, temperature=temperature or 1.0))
        if not designs:
            nothing = torch.zeros(0, len(teachers))
            return _Draws(z, nothing, nothing, n)
        x, foretold = inputs(designs)
        pairs = zip(teachers, foretold.T, strict=True)
        said = np.stack([np.stack(teach(x, told), 1) for teach, told in pairs], 1)  # n x p x 2
        y, spread = torch.tensor(said, dtype=torch.float32).unbind(-1)
        return _Draws(z, y, spread, n, len({kind(base, design) for design in designs}))

    source = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)  # of the first weights
    module = make(generator.card, metrics).to(base.device)
    fitted = FittedAdapter(module, metrics, mean, scale, {})
    former = generator.adapter
    if former is not None and former.metrics == metrics:
        module.load_state_dict(former.module.state_dict())
    module.head.requires_grad_(False)
    dreams = draws(prior, _DREAMT)
    if len(dreams.z) < _DREAMT // 20:
        raise FineTuneError(f"of {_DREAMT} draws of {base.name} only {len(dreams.z)} are steady")
    plain = dreams
    seen = _Seen.of(base, known, rows, torch.tensor(y, dtype=torch.float32))
    for round_ in range(_ROUNDS):
        if round_:
            aim = _aims(fitted, dreams, recipe, source)[0]
            dreams += draws(replace(prior, adapter=fitted.aimed(aim, 1.0)), _AIMED)
        learn(Bent(prior, module), _batches(prior, seen, dreams, recipe), round_, _ROUNDS)
        module.to(base.device).eval()
    module.head.requires_grad_(True)
    _fit_head(module, dreams, _own(base, dreams.z), recipe.seed)
    ranked = []
    for aim in _aims(fitted, dreams, recipe, source):
        for guidance in _GUIDANCE:
            one = fitted.aimed(aim, guidance)
            tried = draws(replace(prior, adapter=one), _TRIED, prior.temperature)
            narrow = tried.kinds < unique * len(tried.z)
            ranked.append((narrow, _promise(fitted, plain, tried, recipe, source), one))
    ranked.sort(key=lambda told: (told[0], -told[1]))
    return [one for *_, one in ranked], {
        "teacher_r2": known_by,
        "promises": [round(share, 3) for _, share, _ in ranked],
    }


@dataclass(frozen=True)
class _Seen:
    """Examined designs.

    Attributes:
        mean: Of the latent vectors, `n x d`.
        spread: Their standard deviations, `n x d`.
        values: Standardised properties as they were measured, `n x p`.
    """

    mean: Tensor
    spread: Tensor
    values: Tensor

    @classmethod
    def of(cls, base: CrystalGenerator, known: Known, rows: np.ndarray, values: Tensor) -> _Seen:
        tokens = known.tokens[torch.as_tensor(rows)].to(base.device)
        with torch.no_grad():
            mean, log_variance = base.network.encode(tokens)
        return cls(mean.float().cpu(), (0.5 * log_variance).exp().float().cpu(), values)


def _batches(
    prior: FittedPrior, seen: _Seen, pool: _Draws, recipe: Recipe
) -> Callable[[torch.Generator], dict[str, Tensor]]:
    """Batches for `Bent`: examined designs, and draws with what might be measured of them."""
    belongs = prior.belongs(torch.cat([seen.mean, pool.z]))
    assert recipe.batch is not None
    size, (n, dim) = recipe.batch, seen.mean.shape
    near = min(round(_SEEN * size), _AGAIN * n)

    def batch(source: torch.Generator) -> dict[str, Tensor]:
        at = torch.randint(n, (near,), generator=source)
        of = torch.randint(len(pool.z), (size - near,), generator=source)
        blur = torch.randn(near, dim, generator=source)
        chances = belongs[torch.cat([at, n + of])]
        return {
            "z": torch.cat([seen.mean[at] + seen.spread[at] * blur, pool.z[of]]),
            "y": torch.cat([seen.values[at], pool[of].measured(source)]),
            "which": torch.multinomial(chances, 1, generator=source)[:, 0],
            "noise": torch.randn(size, dim, generator=source),
            "t": torch.sigmoid(torch.randn(size, generator=source)),
        }

    return batch


def _aims(
    fitted: FittedAdapter, pool: _Draws, recipe: Recipe, source: torch.Generator
) -> list[dict[str, float]]:
    """What may be aimed at, in the metrics' units, boldest first.

    That is what would be measured of the best draws, for several shares of them.
    """
    values = fitted.in_units(pool.measured(source))
    order = np.argsort(-_worth(fitted, values, recipe), kind="stable")
    best = [values[order[: max(3, round(top * len(order)))]].mean(0) for top in _TOP]
    return [dict(zip(fitted.metrics, aim.tolist(), strict=True)) for aim in best]


def _promise(
    fitted: FittedAdapter, plain: _Draws, tried: _Draws, recipe: Recipe, source: torch.Generator
) -> float:
    """Share of draws that would be as good as the best `_RARE` of the untouched prior's."""
    found = []
    for _ in range(_GUESSES):
        measured = torch.cat([plain.measured(source), tried.measured(source)])
        worth = _worth(fitted, fitted.in_units(measured), recipe)
        bar = np.quantile(worth[: len(plain.z)], 1 - _RARE)
        found.append(float((worth[len(plain.z) :] >= bar).sum()) / tried.of)
    return float(np.mean(found))


def _worth(fitted: FittedAdapter, values: Array, recipe: Recipe) -> Array:
    """What designs of such values, `n x p` in the metrics' units, are worth beside each other."""
    n, table = len(values), dict(zip(fitted.metrics, values.T, strict=True))
    return rewards(Examined(range(n), table, np.zeros(n, dtype=bool)), recipe.aims)


@torch.no_grad()
def _own(generator: CrystalGenerator, z: Tensor) -> Tensor:
    """What the network's own heads say of latent vectors, `n x b`."""
    if not generator.network.properties:
        return torch.zeros(len(z), 0)
    return generator.network.predict(z.to(generator.device, torch.float32)).float().cpu()


def _steady(base: CrystalGenerator, z: Tensor) -> tuple[Tensor, list[Any]]:
    """Those of latent vectors `n x d` that decode to a steady design, and the designs.

    No other would be sampled, or proposed: an aim that led to unsteady ones would be wasted.
    """
    found = base.decode(z)
    made = [i for i, design in enumerate(found) if design is not None]
    steady = base.steady([d for d in found if d is not None])
    kept = [i for i, ok in zip(made, steady, strict=True) if ok]
    return z[kept].float(), [found[i] for i in kept]


class _Inputs:
    """What teachers of metrics see of designs: latent vectors and features, and what foretells.

    Where nothing foretells one of the metrics, a graph network's view of the crystals too, as a
    surrogate has it by default.

    Args:
        base: Whose designs.
        metrics: `p` of them.
        predicted: Whether what predictors say goes before the generator's own heads.

    Raises:
        FineTuneError: The predictor is asked for and does not suit the generator.
    """

    def __init__(self, base: CrystalGenerator, metrics: Sequence[str], predicted: bool) -> None:
        self._base = base
        self._network = None
        names = list(base.feature_names)
        if predicted:
            if not PredictedProperties.suits(base):
                raise FineTuneError(f"predictors do not foretell what {base.name} does")
            self._network = PredictedProperties(base)
            names += self._network.feature_names
        wanted = [f"predicted_{m}" for m in metrics]
        last = {name.rsplit(".", 1)[-1]: i for i, name in enumerate(names)}
        self._columns = [last.get(w) for w in wanted]
        self._view = MatglEmbedding(base) if None in self._columns else None

    def __call__(self, designs: Sequence[Any]) -> tuple[Array, Array]:
        """Latent vectors and features, `n x c`; and what foretells, `n x p`, NaN: nothing does."""
        z = self._base.embed(designs)
        features = np.asarray(self._base.features_at(designs, z))
        seen = np.hstack([z.numpy(), features])
        if self._view is not None:  # a crystal that the network cannot read is as the mean one
            seen = np.hstack([seen, np.nan_to_num(self._view.components(designs))])
        if self._network is not None:
            features = np.hstack([features, self._network.features(designs)])
        nothing = np.full(len(designs), np.nan)
        told = [nothing if c is None else features[:, c] for c in self._columns]
        return seen, np.stack(told, 1)


def _fit_head(adapter: PriorAdapter, draws: _Draws, own: Tensor, seed: int) -> None:
    """Have the head repeat what the teachers say of draws; `own` is the base's heads', `n x b`."""
    source, device = torch.Generator().manual_seed(seed), next(adapter.parameters()).device
    z, y, own = (x.to(device) for x in (draws.z, draws.y, own))
    optimizer = torch.optim.AdamW(adapter.head.parameters(), _HEAD_RATE, weight_decay=1e-3)
    for _ in range(_HEAD_STEPS):
        at = torch.randint(len(z), (512,), generator=source)
        loss = ((adapter.predict(z[at], own[at]) - y[at]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
