"""From a generator and what was examined to the generator's next version."""

from __future__ import annotations

import copy
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.crystals.generator import CrystalGenerator
from generators.crystals.prior import FittedPrior
from generators.crystals.prior_training import follow
from generators.crystals.tokens import Tokens, tokenize
from generators.crystals.training import Trained
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal
from generators.fine_tuning import guard
from generators.fine_tuning.adapting import adapt
from generators.fine_tuning.loop import make_fabric, train
from generators.fine_tuning.objective import Elbo, Lesson, batches
from generators.fine_tuning.recipe import (
    Array,
    Collapsed,
    Examined,
    FineTuneError,
    Recipe,
    Runtime,
)
from generators.fine_tuning.replay import Replay, distilled, replay
from generators.fine_tuning.rewards import diversified, rank_weights, replay_buffer, rewards

LEAST = 4  # designs with a result, below which there is nothing to learn


@dataclass(frozen=True)
class Known:
    """Examined designs that the generator can describe and that have a result.

    Attributes:
        tokens: `n` crystals.
        reward: `n`, in [0, 1]; 0 where the evaluation failed.
        failed: `n`.
        values: By metric, `n`.
        designs: `n` designs.
        skipped: Why others were left out, and how many.
    """

    tokens: Tokens
    reward: Array
    failed: np.ndarray
    values: dict[str, Array]
    designs: list[Any]
    skipped: dict[str, int]


def fine_tune(
    generator: CrystalGenerator,
    examined: Examined,
    recipe: Recipe,
    out: Path,
    runtime: Runtime | None = None,
    folder: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> CrystalGenerator:
    """Make and write the next version of a generator.

    On several devices the processes beside the first one end here.

    Args:
        generator: The parent; it stays as it is.
        examined: What was found out.
        recipe: What is wanted, and how to learn.
        out: `NAME.safetensors`, which must not be there yet; the card goes beside it.
        runtime: Where to run.
        folder: Where a checkpoint is kept, from which a training that was killed goes on.
        on_step: Called with the steps done and the loss.

    Raises:
        FineTuneError: It cannot be done as asked; nothing was written.
        Collapsed: The new version is below the floor; nothing was written.
        OSError: It cannot be written.
    """
    started = time.monotonic()
    runtime = runtime or Runtime()
    if out.with_suffix(".json").exists():
        raise FineTuneError(f"{out} is there already, and a version never changes: name another")
    known = describe(generator, examined, recipe)
    held, before = guard.begin(generator, known.designs)
    fabric = make_fabric(runtime)
    again = None if recipe.method == "adapter" else replay(generator, recipe)

    def learn(module: torch.nn.Module, draw: Any, part: int = 0, of: int = 1) -> None:
        """Train, as one of several trainings that share the steps."""
        assert recipe.steps is not None
        assert recipe.learning_rate is not None
        steps = -(-recipe.steps // of)
        before = part * steps
        place = None if folder is None else folder / f"part-{part}"
        if place is not None:
            place.mkdir(exist_ok=True)
        train(
            module, steps, recipe.learning_rate, draw, fabric, recipe.seed, place,
            runtime.seconds_between_checkpoints,
            None if on_step is None else lambda step, loss: on_step(before + step, loss),
        )  # fmt: skip

    network = copy.deepcopy(generator.network)
    prior = generator.without_adapter().learnt_prior
    priors = [prior]
    learnt: dict[str, Any] = {}
    lots: list[tuple[Tokens, torch.Tensor, float]] = []
    if recipe.method == "adapter":
        least = recipe.floor.unique * held["first"]["unique"]
        fitted, learnt = adapt(generator, known, recipe, learn, least)
        assert prior is not None
        priors = [replace(prior, adapter=one) for one in fitted]
    else:
        lots = _train_network(generator, network, known, again, recipe, learn)
    if not fabric.is_global_zero:
        raise SystemExit(0)
    if prior is not None and lots:
        plan = generator.card["recipe"]["prior"]
        priors = [follow(prior, network.eval(), lots, plan, recipe.seed)]
    minutes = (time.monotonic() - started) / 60
    trained = Trained(
        network.cpu().eval(), generator.volumes, np.asarray(generator.card["property_mean"]),
        np.asarray(generator.card["property_scale"]), tuple(generator.card["elements"]),
        float(generator.card.get("minutes", 0.0)),
    )  # fmt: skip
    told = {
        "method": recipe.method,
        "recipe": recipe.as_dict(),
        "learned_from": {
            "designs": len(known.reward),
            "failed": int(known.failed.sum()),
            "skipped": known.skipped,
            "metrics": sorted(known.values),
            "best_reward": round(float(known.reward.max()), 4),
        },
        "replay": again.told if again is not None else None,
        "device": str(fabric.device),
        "devices": fabric.world_size,
        "minutes": round(minutes, 2),
        "before": before,
        **learnt,
    }
    card = {
        **{k: v for k, v in generator.card.items() if k != "metrics"},
        "parent": generator.version,
        "guard": held,
        "fine_tuning": told,
    }
    return _keep(trained, card, priors, recipe, known, before, out)


def _keep(
    trained: Trained,
    card: dict[str, Any],
    priors: list[FittedPrior | None],
    recipe: Recipe,
    known: Known,
    before: dict[str, float],
    out: Path,
) -> CrystalGenerator:
    """Measure what would be written, half precision and all; write the first that will do."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for prior in priors:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tuned.") as place:
            draft = Path(place) / out.name
            CrystalGenerator.save(trained, card, draft, prior)
            after = guard.figures(CrystalGenerator.load(draft), card["guard"], known.designs)
        try:
            guard.check(card["guard"]["first"], before, after, recipe.floor)
            break
        except Collapsed:
            if prior is priors[-1]:
                raise
    card["fine_tuning"]["after"] = after
    card["metrics"] = {"fine_tuning": {"before": before, "after": after}}
    CrystalGenerator.save(trained, card, out, prior)
    return CrystalGenerator.load(out)


def describe(generator: CrystalGenerator, examined: Examined, recipe: Recipe) -> Known:
    """Read what was examined as the generator does.

    Raises:
        FineTuneError: Too little is left to learn from.
    """
    worth = rewards(examined, recipe.aims)
    crystals: list[WyckoffCrystal] = []
    kept, skipped = [], Counter[str]()
    for i, design in enumerate(examined.designs):
        if not np.isfinite(worth[i]):
            skipped["not measured"] += 1
            continue
        try:
            crystals.append(generator.crystal(design))
        except UndescribableError as error:
            skipped[str(error)] += 1
            continue
        kept.append(i)
    failed = np.asarray(examined.failed, dtype=bool)[kept]
    if (~failed).sum() < LEAST:
        why = "; ".join(f"{n} x {reason}" for reason, n in skipped.items())
        raise FineTuneError(
            f"{int((~failed).sum())} designs with results are too few to learn from, "
            f"{LEAST} are the least" + (f" (left out: {why})" if why else "")
        )
    metrics = [aim.metric for aim in recipe.aims]
    return Known(
        tokens=tokenize(crystals, generator.volumes),
        reward=worth[kept],
        failed=failed,
        values={m: np.asarray(examined.values[m], dtype=float)[kept] for m in metrics},
        designs=[examined.designs[i] for i in kept],
        skipped=dict(skipped),
    )


def _train_network(
    generator: CrystalGenerator,
    network: Any,
    known: Known,
    again: Replay | None,
    recipe: Recipe,
    learn: Callable[[torch.nn.Module, Any], None],
) -> list[tuple[Tokens, torch.Tensor, float]]:
    """Train the network; crystals that it learnt from, their chances, and each lot's share."""
    assert recipe.batch is not None
    replayed = 0 if again is None else round(recipe.batch * (recipe.replay or 0.0))
    plan = lessons(generator, known, recipe, recipe.batch - replayed)
    if again is not None:
        plan.append((_lesson(again.tokens, again.properties, np.ones(len(again.tokens))), replayed))
    pull = recipe.pull if recipe.method == "reward" else 0.0
    parent = copy.deepcopy(generator.network) if pull else None
    module = Elbo(network, parent, generator.card["recipe"]["training"], pull)
    learn(module, lambda source: batches(plan, generator.dim, source))
    return [(lesson.tokens, lesson.chance, float(count)) for lesson, count in plan]


def lessons(
    generator: CrystalGenerator, known: Known, recipe: Recipe, count: int
) -> list[tuple[Lesson, int]]:
    """What a network learns of examined designs by a method, and how many of them a batch has.

    `weighting` draws measured designs by the weights of their ranks, `full` all alike. `reward`
    draws half a batch from the better half of all, rewards after the diversity filter, and half
    from the replay buffer.
    """
    heads = distilled(generator, known.tokens)
    n = len(known.reward)
    if recipe.method in ("weighting", "full"):
        chance = np.where(known.failed, 0.0, 1.0)
        if recipe.method == "weighting":
            right = np.flatnonzero(~known.failed)
            size = n + recipe.replay_rows
            chance[right] = rank_weights(known.reward[right], recipe.k, size)
        return [(_lesson(known.tokens, heads, chance), count)]
    formulas = [d.composition.reduced_formula for d in known.designs]
    reward = diversified(known.reward, formulas)
    better = np.argsort(-reward, kind="stable")[: max(1, (n + 1) // 2)]
    buffer = replay_buffer(reward, formulas)
    chance = np.zeros(n)
    chance[better] = 1.0
    plan = [
        (_lesson(known.tokens, heads, chance, reward), count - (count // 2 if len(buffer) else 0))
    ]
    if len(buffer):
        again = np.zeros(n)
        again[buffer] = 1.0
        plan.append((_lesson(known.tokens, heads, again, reward), count // 2))
    return plan


def _lesson(
    tokens: Tokens, properties: torch.Tensor, chance: Array, reward: Array | None = None
) -> Lesson:
    worth = np.ones(len(chance)) if reward is None else reward
    return Lesson(
        tokens,
        properties,
        torch.tensor(chance / chance.sum(), dtype=torch.float32),
        torch.tensor(worth, dtype=torch.float32),
    )
