"""Fitting the learnt prior to what a trained network makes of its training crystals."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.crystals.conditions import crystal_system
from generators.crystals.dataset import Row
from generators.crystals.network import CrystalNetwork
from generators.crystals.prior import CHOICE, FittedPrior, MixtureFlow, Wanted, make
from generators.crystals.tokens import GROUPS, MAX_Z, Tokens, tokenize
from generators.crystals.training import Trained, substitute

_BATCH = 512
_FOLLOWING = 200  # steps that follow a fine-tuning at most
_PATHS = 2  # for each crystal of a batch
_CROWD = 40  # crystals for each component at least


@dataclass(frozen=True)
class Posterior:
    """What the network makes of training crystals.

    Attributes:
        mean: `n x d`.
        spread: `n x d`, standard deviations.
        facts: What is true of each, as conditions.
    """

    mean: Tensor
    spread: Tensor
    facts: Wanted

    def __len__(self) -> int:
        return len(self.mean)


def fit_prior(
    trained: Trained,
    recipe: Mapping[str, Any],
    rows: Sequence[Row],
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> FittedPrior:
    """Fit the learnt prior of a trained network.

    Args:
        trained: What training made.
        recipe: A training recipe with a part `prior`.
        rows: Training rows, none of them held out.
        device: Where to train.
        on_epoch: Called with the epoch and its mean loss.

    Raises:
        ValueError: A held-out row is among them.
    """
    if any(row.held_out for row in rows):
        raise ValueError("a held-out row was given to training")
    started = time.monotonic()
    plan = recipe["prior"]
    known = posterior(trained, recipe, rows, device)
    properties = len(trained.network.properties)
    sources = [s["file"] for s in recipe["sources"]]
    torch.manual_seed(recipe["seed"])
    source = torch.Generator().manual_seed(recipe["seed"])
    max_atoms = int(recipe["max_atoms"])
    mixture, belongs = _mixture(known, plan, recipe["seed"])
    flow = make(
        known.mean.shape[1], max_atoms, sources, properties, len(mixture.means_),
        plan["width"], plan["layers"],
    ).to(device)  # fmt: skip
    flow.means.copy_(torch.tensor(mixture.means_))
    flow.roots.copy_(torch.tensor(np.linalg.cholesky(mixture.covariances_)))
    chance = torch.where(known.facts.made > 0, float(plan["substituted"]), 1.0)
    smooth = _learn(flow, known, belongs, chance, plan, max_atoms, len(sources), source, on_epoch)
    told = {
        "width": plan["width"],
        "layers": plan["layers"],
        "sources": sources,
        "properties": properties,
        "components": len(flow.means),
        "crystals": len(rows),
        "sizes": torch.bincount(
            known.facts.atoms[known.facts.made == 0], minlength=max_atoms + 1
        ).tolist(),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    return FittedPrior(smooth.eval(), told, max_atoms, float(plan.get("temperature", 1.0)))


def _learn(
    flow: MixtureFlow,
    known: Posterior,
    belongs: Tensor,
    chance: Tensor,
    plan: Mapping[str, Any],
    max_atoms: int,
    sources: int,
    source: torch.Generator,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> MixtureFlow:
    """Train a flow; what comes back is the mean of its weights over the last steps.

    Args:
        flow: Where to begin; it changes.
        known: `n` crystals.
        belongs: How each belongs to the components, `n x m`.
        chance: How often each is drawn, `n`.
        plan: The part `prior` of a recipe.
        max_atoms: Of the generator.
        sources: How many data sets there are.
        source: Of randomness.
        on_epoch: Called with every 500 steps and their mean losses.
    """
    device = flow.means.device
    smooth = copy.deepcopy(flow)
    optimizer = torch.optim.AdamW(flow.parameters(), plan["learning_rate"], weight_decay=1e-2)
    steps, batch = plan["steps"], plan["batch"] // _PATHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan["learning_rate"], total_steps=steps + 1, pct_start=0.05
    )
    totals = {"flow": 0.0, "component": 0.0}
    for step in range(steps):
        index = torch.multinomial(chance, batch, replacement=True, generator=source)
        which = torch.multinomial(belongs[index], 1, generator=source)[:, 0].to(device)
        asked = conceal(known.facts[index], plan["free"], source)
        condition = flow.condition(asked.features(max_atoms, sources).to(device))
        choice = F.cross_entropy(flow.odds(condition), which)
        # the costly conditions serve several paths
        index, which = index.repeat(_PATHS), which.repeat(_PATHS)
        target, noise, blur = (
            torch.randn(len(index), flow.dim, generator=source) for _ in range(3)
        )
        target = (known.mean[index] + plan["noise"] * known.spread[index] * blur).to(device)
        begin = flow.source(which, noise.to(device))
        t = torch.sigmoid(torch.randn(len(index), generator=source)).to(device)
        at = t[:, None] * target + (1 - t[:, None]) * begin
        said = flow(at, t, which, condition.repeat(_PATHS, 1))
        error = ((said - (target - begin)) ** 2).mean()
        optimizer.zero_grad()
        (error + CHOICE * choice).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for old, new in zip(smooth.parameters(), flow.parameters(), strict=True):
                old.lerp_(new, 1 - decay)
        totals["flow"] += float(error.detach()) / 500
        totals["component"] += float(choice.detach()) / 500
        if (step + 1) % 500 == 0:
            if on_epoch is not None:
                on_epoch((step + 1) // 500, totals)
            totals = dict.fromkeys(totals, 0.0)
    return smooth.eval()


def follow(
    prior: FittedPrior,
    network: CrystalNetwork,
    lots: Sequence[tuple[Tokens, Tensor, float]],
    plan: Mapping[str, Any],
    seed: int,
) -> FittedPrior:
    """The prior of a network that was fine-tuned, from its parent's.

    Args:
        prior: The parent's.
        network: The tuned network.
        lots: What it was tuned to: crystals, how often each is drawn (`n`), and the share of the
            lot in a batch.
        plan: The part `prior` of the recipe.
        seed: Of randomness.
    """
    lots = [lot for lot in lots if len(lot[0]) and lot[2] > 0]
    tokens = Tokens(
        *(torch.cat([getattr(t, name) for t, _, _ in lots]) for name in Tokens.__annotations__)
    )
    chance = torch.cat([share * c / c.sum() for _, c, share in lots])
    none = torch.zeros(len(tokens), dtype=torch.long)
    unknown = torch.full((len(tokens), len(network.properties)), torch.nan)
    known = _encoded(network, [(tokens, none, unknown, none)], plan["fill"])
    flow = copy.deepcopy(prior.module).to(next(network.parameters()).device)
    belongs = prior.belongs(known.mean)
    source = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    quick = {**plan, "steps": min(plan["steps"], _FOLLOWING),
             "learning_rate": plan["learning_rate"] / 4}  # fmt: skip
    smooth = _learn(
        flow, known, belongs, chance, quick, prior.max_atoms, len(prior.sources), source
    )
    # what was calibrated was another network
    told = {k: v for k, v in prior.told.items() if k != "familiarity"}
    return FittedPrior(smooth, told, prior.max_atoms, prior.temperature)


def _mixture(known: Posterior, plan: Mapping[str, Any], seed: int) -> tuple[Any, Tensor]:
    """A mixture fitted to the crystals themselves, and how each of all belongs to its parts.

    Returns:
        The mixture, and probabilities, `n x m`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    own = known.facts.made == 0
    blur = torch.randn(known.mean.shape, generator=torch.Generator().manual_seed(seed + 2))
    points = (known.mean + plan["noise"] * known.spread * blur).double().numpy()
    mixture = GaussianMixture(
        max(1, min(plan["components"], int(own.sum()) // _CROWD)),
        reg_covar=1e-2,
        max_iter=plan["rounds"],
        init_params="random_from_data",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it need not be at its best
        mixture.fit(points[own.numpy()])
    return mixture, torch.tensor(mixture.predict_proba(points), dtype=torch.float32)


@torch.no_grad()
def posterior(
    trained: Trained,
    recipe: Mapping[str, Any],
    rows: Sequence[Row],
    device: torch.device | str = "cpu",
) -> Posterior:
    """What the network makes of training crystals, and of copies with other, similar elements.

    A property that was not measured is what the network's head says, for those heads that the
    recipe names under `fill`: a prior that knows few values of a property hardly follows it.
    """
    plan, network = recipe["prior"], trained.network.to(device)
    heads = network.properties
    order = {s["file"]: i + 1 for i, s in enumerate(recipe["sources"])}
    tokens = tokenize([row.crystal for row in rows], trained.volumes)
    of = torch.tensor([order[row.source] for row in rows])
    values = np.array([[row.properties.get(h, np.nan) for h in heads] for row in rows])
    measured = torch.tensor(
        (values - trained.property_mean) / trained.property_scale, dtype=torch.float32
    )
    parts = [(tokens, of, measured, torch.zeros(len(rows), dtype=torch.long))]
    source = torch.Generator().manual_seed(recipe["seed"] + 1)
    for _ in range(plan["copies"]):
        made, changed = substitute(tokens, 1.0, source)
        count = int(changed.sum())
        unknown = torch.full((count, len(heads)), torch.nan)
        parts.append((made[changed], of[changed], unknown, torch.ones(count, dtype=torch.long)))
    return _encoded(network, parts, plan["fill"])


@torch.no_grad()
def _encoded(
    network: CrystalNetwork,
    parts: Sequence[tuple[Tokens, Tensor, Tensor, Tensor]],
    filled: Sequence[str],
) -> Posterior:
    """The posterior of crystals, their sources, standardised properties, and whether made up."""
    device = next(network.parameters()).device
    fill = torch.tensor([h in filled for h in network.properties])
    means, spreads, facts = [], [], []
    for tokens, of, measured, made_up in parts:
        for i in range(0, len(tokens), _BATCH):
            cut = slice(i, i + _BATCH)
            batch = tokens[cut].trimmed().to(device)
            mean, log_variance = network.encode(batch)
            guessed = network.predict(mean).cpu()
            missing = torch.isnan(measured[cut]) & fill
            value = torch.where(missing, guessed, measured[cut])
            means.append(mean.cpu())
            spreads.append((0.5 * log_variance).exp().cpu())
            facts.append(_facts(network, batch, value, of[cut], made_up[cut]))
    joined = [torch.cat([getattr(f, name) for f in facts]) for name in Wanted.__annotations__]
    return Posterior(torch.cat(means), torch.cat(spreads), Wanted(*joined))


def _facts(
    network: CrystalNetwork, t: Tokens, properties: Tensor, of: Tensor, made: Tensor
) -> Wanted:
    """What is true of crystals, as conditions."""
    count = network.atoms[t.group[:, None], t.position].cpu()
    share = torch.zeros(len(t), MAX_Z + 1).scatter_add_(1, t.element.cpu(), count)
    share[:, 0] = 0.0
    present = (share > 0).float()
    systems = torch.tensor([crystal_system(g) for g in range(GROUPS)])
    group = t.group.cpu()
    atoms = share.sum(1)
    return Wanted(
        present, 1 - present, share / atoms[:, None], group, systems[group],
        atoms.round().long(), of, made, properties,
    )  # fmt: skip


def conceal(facts: Wanted, free: float, source: torch.Generator) -> Wanted:
    """Leave conditions out at random, so that the flow learns all combinations of them.

    Args:
        facts: What is true of `n` crystals.
        free: Share of crystals all of whose conditions are left out.
        source: Of randomness.
    """
    n = len(facts)

    def chance(p: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=source) < p

    open_ = ~chance(free)
    kind = torch.randint(4, (n,), generator=source)  # nothing, a part, the system, the composition
    part = chance(0.5, MAX_Z + 1)
    spared = torch.rand(n, MAX_Z + 1, generator=source) > torch.rand(n, 1, generator=source)
    contains = torch.where((kind == 1)[:, None], facts.contains * part, 0.0)
    contains = torch.where((kind == 2)[:, None], facts.contains, contains)
    use_ban = (kind == 1) & chance(0.5)
    banned = torch.where(use_ban[:, None], facts.banned * spared, 0.0)
    banned = torch.where((kind == 2)[:, None], facts.banned, banned)
    share = torch.where((kind == 3)[:, None], facts.share, 0.0)
    by_group = torch.randint(3, (n,), generator=source)  # nothing, the group, the system
    seen = chance(0.3, facts.properties.shape[1]) & open_[:, None]
    keep = open_.long()
    return Wanted(
        contains * open_[:, None],
        banned * open_[:, None],
        share * open_[:, None],
        facts.group * (by_group == 1) * keep,
        facts.system * (by_group == 2) * keep,
        facts.atoms * chance(0.4) * keep,
        facts.source * chance(0.4) * keep,
        facts.made,
        torch.where(seen, facts.properties, torch.nan),
    )
