"""Training an adapter: a teacher that knows the property, and the prior that follows it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.crystals.wyckoff import UndescribableError
from generators.fine_tuning.adapter import FittedAdapter, LatentAdapter
from generators.fine_tuning.objective import Flow
from generators.fine_tuning.recipe import Array, Examined, FineTuneError, Recipe
from generators.fine_tuning.rewards import rewards

if TYPE_CHECKING:
    from generators.crystals.generator import CrystalGenerator
    from generators.fine_tuning.tune import Known

_DREAMT = 2000  # draws of the prior that the teacher judges
_SEEN = 0.5  # share of a batch that is examined designs
_HEAD_STEPS = 300
_HEAD_RATE = 3e-3
_CHECKED = 0.2  # share of designs that only judge the teacher
_LEAST = 6  # designs with every metric
_MOST = 1500  # designs that the teacher learns from, the best first
_TOP = (0.005, 0.02, 0.1, 0.3)  # shares of draws whose mean values are the aim, boldest first


class Teacher:
    """A property of designs, from few of them: a Gaussian process on latent vector and features.

    Args:
        x: Latent vectors and features, `n x c`.
        y: The property, standardised, `n`.
        latent: How many of the columns are the latent vector's; these are on one scale already.
        seed: Of the fit.
    """

    def __init__(self, x: Array, y: Array, latent: int, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._mean, self._scale = x.mean(0), x.std(0) + 1e-9
        self._mean[:latent], self._scale[:latent] = 0.0, 1.0
        kernel = ConstantKernel() * Matern(3.0, nu=2.5) + WhiteKernel(0.1)
        self._process = GaussianProcessRegressor(kernel, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # a length or a noise at its bound: there is nothing to learn, and so it expects
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process.fit(self._scaled(x), y)

    def _scaled(self, x: Array) -> Array:
        return np.asarray(np.clip((x - self._mean) / self._scale, -4, 4))

    def __call__(self, x: Array) -> Array:
        """What it expects, `n`."""
        return np.asarray(self._process.predict(self._scaled(x)))


def adapt(
    generator: CrystalGenerator,
    known: Known,
    recipe: Recipe,
    learn: Callable[[nn.Module, Any], None],
) -> tuple[list[FittedAdapter], dict[str, Any]]:
    """Fit an adapter to what was measured; the network stays as it is, to the bit.

    A teacher learns from the examined designs and says what it expects of these and of draws from
    the prior; the flow and the head learn that from the teacher, so that few results reach far. So
    a wanted value is an expected one, and what can be expected lies closer together than what was
    measured. What the prior aims at is what the teacher expects of the best.

    Returns:
        The same adapter with several aims, the boldest first, for whoever checks what each keeps;
        and what to say of the teacher.

    Raises:
        FineTuneError: Too few designs have all the metrics.
    """
    metrics = tuple(known.values)
    table = np.stack([known.values[m] for m in metrics], 1)
    rows = np.flatnonzero(np.isfinite(table).all(1) & ~known.failed)
    if len(rows) < _LEAST:
        raise FineTuneError(f"{len(rows)} designs with all of {', '.join(metrics)} are too few")
    mean, scale = table[rows].mean(0), table[rows].std(0)
    scale = np.where(scale > 0, scale, 1.0)
    y = (table[rows] - mean) / scale
    base = generator.without_adapter()
    posterior, spread = _posterior(base, known, rows)
    source = torch.Generator().manual_seed(recipe.seed)
    dreamt, of_dreamt = _dream(generator, source)
    of_seen = _inputs(base, [known.designs[i] for i in rows])
    expected, around, r2 = [], [], []
    best = np.argsort(-known.reward[rows], kind="stable")[:_MOST]
    for column in y.T:
        r2.append(_r2(of_seen, column, base.dim, recipe.seed))
        teacher = Teacher(of_seen[best], column[best], base.dim, recipe.seed)
        expected.append(teacher(of_dreamt))
        around.append(teacher(of_seen))
    labels, labels_seen = (
        torch.tensor(np.stack(x, 1), dtype=torch.float32) for x in (expected, around)
    )
    torch.manual_seed(recipe.seed)  # of the first weights
    own = _own(base, dreamt)
    adapter = LatentAdapter(base.dim, len(metrics), own.shape[1])
    former = generator.adapter
    if former is not None and former.metrics == metrics:
        adapter.layers.load_state_dict(former.module.layers.state_dict())
    _fit_head(adapter, dreamt, own, labels, source)
    adapter.head.requires_grad_(False)

    def draw(source: torch.Generator) -> dict[str, Tensor]:
        assert recipe.batch is not None
        near = round(_SEEN * recipe.batch)
        at = torch.randint(len(posterior), (near,), generator=source)
        z = posterior[at] + spread[at] * torch.randn(near, base.dim, generator=source)
        of = torch.randint(len(dreamt), (recipe.batch - near,), generator=source)
        return {"z": torch.cat([z, dreamt[of]]), "y": torch.cat([labels_seen[at], labels[of]])}

    learn(Flow(adapter), draw)
    fitted = []
    for aim in _wanted(metrics, labels.numpy(), labels_seen.numpy(), mean, scale, recipe):
        told = {
            "metrics": list(metrics), "mean": mean.tolist(), "scale": scale.tolist(),
            "aim": dict(zip(metrics, aim.tolist(), strict=True)), "width": adapter.width,
        }  # fmt: skip
        fitted.append(FittedAdapter.of(adapter.cpu(), told))
    return fitted, {"teacher_r2": dict(zip(metrics, r2, strict=True))}


def _wanted(
    metrics: tuple[str, ...],
    dreamt: Array,
    seen: Array,
    mean: Array,
    scale: Array,
    recipe: Recipe,
) -> list[Array]:
    """What the prior may aim at, in the metrics' units, boldest first.

    That is what the teacher expects of the best of the examined designs, and of shares of draws.
    """
    values = np.concatenate([dreamt, seen]) * scale + mean
    n = len(values)
    said = Examined(range(n), dict(zip(metrics, values.T, strict=True)), np.zeros(n, dtype=bool))
    worth = rewards(said, recipe.aims)
    groups = [(len(dreamt), _TOP[0] * 4), *((0, top) for top in _TOP)]
    found = []
    for start, top in groups:
        part = slice(start, None) if start else slice(0, len(dreamt))
        order = np.argsort(-worth[part], kind="stable")[: max(3, round(top * len(worth[part])))]
        found.append((float(worth[part][order].mean()), values[part][order].mean(0)))
    return [aim for _, aim in sorted(found, key=lambda one: -one[0])]


@torch.no_grad()
def _posterior(
    generator: CrystalGenerator, known: Known, rows: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Means and standard deviations, `n x d`, of the latent vectors of designs."""
    at = torch.as_tensor(rows)
    tokens = known.tokens[at].to(generator.device)
    mean, log_variance = generator.network.encode(tokens)
    return mean.float().cpu(), (0.5 * log_variance).exp().float().cpu()


@torch.no_grad()
def _own(generator: CrystalGenerator, z: Tensor) -> Tensor:
    """What the network's own heads say of latent vectors, `n x b`."""
    if not generator.network.properties:
        return torch.zeros(len(z), 0)
    return generator.network.predict(z.to(generator.device)).float().cpu()


def _dream(generator: CrystalGenerator, source: torch.Generator) -> tuple[Tensor, Array]:
    """Latent draws that decode to a design, `n x d`, and what the teacher sees of these.

    Where there is an adapter already, half of them are from where it aims: what is rare in the
    prior is to be known well.
    """
    base = generator.without_adapter()
    z = torch.randn(_DREAMT, base.dim, generator=source)
    if generator.adapter is not None:
        z[::2] = generator.adapter.from_prior(z[::2]).float()
    kept, designs = [], []
    for i, design in enumerate(base.decode(z)):
        if design is None:
            continue
        try:
            base.crystal(design)
        except UndescribableError:
            continue  # its symmetry is not as it was decoded
        kept.append(i)
        designs.append(design)
    if len(kept) < _DREAMT // 20:
        raise FineTuneError(f"of {_DREAMT} draws of {base.name} only {len(kept)} are valid")
    return z[kept], _inputs(base, designs)


def _inputs(base: CrystalGenerator, designs: Sequence[Any]) -> Array:
    """Latent vectors and features of designs, `n x c`."""
    return np.asarray(torch.cat([base.encode(designs), base.features(designs)], 1).numpy())


def _r2(x: Array, y: Array, latent: int, seed: int) -> float | None:
    """R2 of a teacher on designs that it did not see; None where they are too few to tell."""
    order = np.random.default_rng(seed).permutation(len(y))[:_MOST]
    checked = round(_CHECKED * len(order))
    judge, teach = order[:checked], order[checked:]
    if checked < 5 or not y[judge].std():
        return None
    said = Teacher(x[teach], y[teach], latent, seed)(x[judge])
    return round(float(1 - ((said - y[judge]) ** 2).mean() / y[judge].var()), 3)


def _fit_head(
    adapter: LatentAdapter, z: Tensor, own: Tensor, labels: Tensor, source: torch.Generator
) -> None:
    """Have the head repeat what the teacher says of draws."""
    optimizer = torch.optim.AdamW(adapter.head.parameters(), _HEAD_RATE, weight_decay=1e-3)
    for _ in range(_HEAD_STEPS):
        at = torch.randint(len(z), (512,), generator=source)
        loss = ((adapter.predict(z[at], own[at]) - labels[at]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
