"""What matters in a search of a latent space: the light-stiff campaign, cheaply answered.

The ready campaign `light-stiff` with the shipped predictor in place of CHGNet, so that there can be
many seeds: density is exact, bulk modulus and formation energy are what the network `matgl` says of
the crystal as it was decoded. It never relaxes and never fails, so these figures rank ways to
search, not materials. Hypervolume of 40 trials in batches of 4, beyond 20 GPa and 9 g/cm^3.

* `default`: as `matloop run` searches. Every candidate is decoded and encoded again, and the
  surrogate sees what the network says of that vector; what the generator foretells stands for
  results until there are eight.
* `unsifted`: as `default`, but that draws from the prior are decoded as they come, none sifted.
* `blind`: the first eight designs are draws. The arms below begin like that.
* `asked`: without encoding again: what the network says of the vector that was asked for.
* `latent` and `latent-asked`: these two with the vector itself beside (`embed: [latent]`).
* `joint`: qLogNEHVI in place of the portfolio. `random`: the generator's draws that pass.
* `adapter`, `weighting`, `full`: as `default`, with a generator that learns from the results by
  this method after every 20 trials.

    python benchmarks/latent_campaign.py --seeds 10
    python benchmarks/latent_campaign.py --seeds 5 --trials 60 --arms default,adapter
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from hypervolume import paired, spec_for

from campaigns.tuning import aims
from generators.crystals.generator import CrystalGenerator
from generators.crystals.predictors import load_predictor
from generators.fine_tuning import Examined, FineTuneError, Recipe
from loop import History, ProposalSettings, hypervolume_trace, propose
from loop.axes.latent import LatentAxis, LatentVector
from loop.problem import Problem

RESULTS = Path(__file__).parent / "results/latent_campaign.json"
ARMS = ("default", "asked", "blind", "latent", "latent-asked", "joint", "random")
INITIAL = dict.fromkeys(ARMS[1:], 8) | {"random": 10**9}
LEARNING = ("adapter", "weighting", "full")
BESIDE = ("unsifted", *LEARNING)
"""Arms that differ from `default` in one thing."""
BATCH = 4
EVERY = 20


@dataclass(frozen=True)
class Asked(LatentAxis):
    """A latent axis whose surrogate sees the vectors that were asked for."""

    vector: bool = False
    codes: dict[int, np.ndarray] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    """The designs, so that no other takes their identity."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        latent = LatentVector(self.generator).feature_names if self.vector else ()
        return tuple(f"{self.name}.{f}" for f in (*self.generator.feature_names, *latent))

    def decode(self, codes: np.ndarray, seed: int) -> list[Any | None]:
        found = super().decode(codes, seed)
        for design, code in zip(found, codes, strict=True):
            if design is not None:
                self.codes[id(design)] = code
                self.kept.append(design)
        return found

    def features(self, values: Sequence[Any]) -> np.ndarray:
        generator = self.generator
        assert isinstance(generator, CrystalGenerator)
        z = generator.embed(values).numpy()  # of those that were never asked for, as the first are
        for i, design in enumerate(values):
            z[i] = self.codes.get(id(design), z[i])
        rows = generator.features_at(values, torch.tensor(z)).numpy()
        return np.hstack([rows, z]) if self.vector else rows


def of_arm(problem: Problem, arm: str) -> Problem:
    (axis,) = problem.space.axes
    assert isinstance(axis, LatentAxis)
    # What answers is not to be a feature too; and where nothing fails there is nothing to refuse.
    axis = replace(axis, embeddings=())
    problem = replace(problem, screen=replace(problem.screen, steady=False))
    latent = arm.startswith("latent")
    if "asked" in arm:
        axis = Asked(axis.name, axis.generator, vector=latent)
    elif latent:
        axis = replace(axis, embeddings=(LatentVector(axis.generator),))
    return replace(problem, space=replace(problem.space, axes=(axis,)))


def tuned(
    problem: Problem, arm: str, designs: list[Any], outcomes: np.ndarray, seed: int
) -> Problem:
    """The problem with the generator's next version, or as it is where nothing could be learnt."""
    (axis,) = problem.space.axes
    assert isinstance(axis, LatentAxis)
    assert isinstance(axis.generator, CrystalGenerator)
    examined = Examined(
        [d[axis.name] for d in designs],
        dict(zip(problem.metrics, outcomes.T, strict=True)),
        np.zeros(len(designs), dtype=bool),
    )
    recipe = Recipe(method=arm, aims=tuple(aims(problem)), seed=seed)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as place:
        try:
            version = axis.generator.fine_tune(examined, recipe, Path(place) / "next.safetensors")
        except FineTuneError as error:
            print(" ", error)
            return problem
    return replace(problem, space=replace(problem.space, axes=(replace(axis, generator=version),)))


def campaign(arm: str, seed: int, trials: int, work: Path) -> dict[str, Any]:
    """Hypervolumes after every trial."""
    started = time.process_time()
    spec = spec_for(seed, trials, work)
    problem, network = of_arm(spec.problem(), arm), load_predictor("matgl")
    columns = [list(network.properties).index(m) for m in ("bulk_modulus", "formation_energy")]
    settings = ProposalSettings(
        strategy="joint" if arm == "joint" else "portfolio",
        initial=INITIAL.get(arm),
        sifted=1 if arm == "unsifted" else ProposalSettings.sifted,
    )
    designs: list[Any] = []
    outcomes = np.zeros((0, len(problem.metrics)))
    while len(designs) < trials:
        if arm in LEARNING and designs and len(designs) % EVERY == 0:
            problem = tuned(problem, arm, designs, outcomes, seed)
        nothing = np.zeros(len(designs), dtype=bool)
        history = History(designs, outcomes, np.full_like(outcomes, np.nan), nothing)
        proposal = propose(problem, history, BATCH, 1000 * seed + len(designs), settings=settings)
        new = [c.design for c in proposal.candidates]
        crystals = [d["crystal"] for d in new]
        said = network.predict(crystals)[:, columns]
        found = {"bulk_modulus": said[:, 0], "formation_energy": said[:, 1],
                 "density": np.array([float(s.density) for s in crystals])}  # fmt: skip
        designs += new
        outcomes = np.vstack([outcomes, np.stack([found[m] for m in problem.metrics], 1)])
    trace = hypervolume_trace(problem, outcomes)
    row = {"hypervolume": float(trace[-1]), "area": float(np.mean(trace)),
           "trace": [round(float(v), 1) for v in trace],
           "seconds": round(time.process_time() - started)}  # fmt: skip
    print(arm, seed, {k: v for k, v in row.items() if k != "trace"}, flush=True)
    return row


def main() -> None:
    """Print and keep what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arms = arguments.arms.split(",")
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for seed in range(arguments.seeds):
            for arm in arms:
                kept = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
                of = kept.setdefault(str(arguments.trials), {}).setdefault(arm, {})
                if str(seed) not in of:
                    of[str(seed)] = campaign(arm, seed, arguments.trials, Path(work))
                    arguments.out.parent.mkdir(parents=True, exist_ok=True)
                    arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
    kept = kept.get(str(arguments.trials), {})
    for arm in (a for a in arms if a in kept):
        base = "default" if arm in BESIDE else "blind"
        seeds = sorted(set(kept[arm]) & set(kept.get(base, {})), key=int)
        for what in ("hypervolume", "area") if len(seeds) > 1 else ():
            own = np.array([kept[arm][s][what] for s in seeds])
            less, half = paired(own, np.array([kept[base][s][what] for s in seeds]))
            told = f"mean {own.mean():6.0f}  less {base} {less:+6.0f} +- {half:.0f}"
            print(f"{arm:13} {what:11} {told}, {len(seeds)} seeds")


if __name__ == "__main__":
    main()
