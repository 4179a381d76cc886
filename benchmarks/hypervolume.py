"""Hypervolume of the light-stiff campaign over random sampling from the same generator's prior.

Both arms face the same problem, the same screen and the same evaluator; the random arm draws its
designs from the prior and screens them, the other is the campaign as `matloop run` runs it. Every
evaluation is kept under the work folder, so an interrupted benchmark goes on where it was.

`adapter`, `weighting`, `reward` and `full` are the campaign with a generator that learns from the
results by this method (`fine_tune`), which the summary sets beside `campaign`.

    python benchmarks/hypervolume.py --seeds 5 --trials 40
    python benchmarks/hypervolume.py --seeds 5 --arms campaign,adapter --every 10
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import t

from campaigns import Campaign
from campaigns.spec import Spec, load_spec
from campaigns.spec_tuning import METHODS
from campaigns.templates import write_template
from loop import History, ProposalSettings, hypervolume_trace, propose
from loop.executor import LocalPool, Outcome

TEMPLATE = "light-stiff"
RESULTS = Path(__file__).parent / "results" / "hypervolume.json"


def spec_for(
    seed: int,
    trials: int,
    work: Path,
    fine_tune: dict[str, Any] | None = None,
    evaluate: dict[str, Any] | None = None,
) -> Spec:
    """The ready campaign with this seed and budget, and no rule that stops it early."""
    folder = work / "spec"
    if not (folder / f"{TEMPLATE}.yaml").is_file():
        write_template(TEMPLATE, folder)
    spec = load_spec(folder / f"{TEMPLATE}.yaml")
    data = spec.model_dump(mode="json", by_alias=True)
    data |= {"campaign": f"{TEMPLATE}-{seed}", "seed": seed}
    if fine_tune:
        data["campaign"] += "-" + fine_tune["method"]
        data["fine_tune"] = fine_tune
    data["evaluate"] |= evaluate or {}
    data["budget"]["trials"] = trials
    data.pop("stop", None)
    return Spec.model_validate(data)


def run_campaign(spec: Spec, work: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Outcomes (trials x metrics, nan where failed), in order, of the campaign."""
    with Campaign.create_or_open(spec, db=f"sqlite:///{work / 'campaigns.db'}") as campaign:
        campaign.run()
        trials, readings = campaign.trials(), campaign.observations()
        metrics = campaign.goals.metrics
        outcomes = np.full((len(trials), len(metrics)), np.nan)
        where = {int(t): i for i, t in enumerate(trials.index)}
        for row in readings[~readings["superseded"]].itertuples():
            if row.metric in metrics:
                outcomes[where[int(row.trial)], metrics.index(row.metric)] = row.mean
        front = campaign.front()
        return outcomes, {"front": [str(name) for name in front.get("name", [])]}


def run_random(spec: Spec, work: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Outcomes of as many screened draws from the prior, evaluated the same way."""
    problem, n = spec.problem(), spec.budget.trials
    m = len(problem.metrics)
    nothing = History([], np.empty((0, m)), np.empty((0, m)), np.empty(0, dtype=bool))
    drawn = propose(problem, nothing, n, spec.seed, settings=ProposalSettings(initial=10**9))
    folder = work / f"random-{spec.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    evaluate = spec.evaluate
    outcomes = np.full((n, m), np.nan)
    with LocalPool(
        spec.evaluator_config(),
        workers=evaluate.workers,
        time_limit=evaluate.seconds(),
        memory_limit=evaluate.memory_bytes(),
        results_dir=folder,
    ) as pool:
        keys = [f"draw-{i}" for i in range(n)]
        ended: dict[str, Outcome] = {}
        for i, candidate in enumerate(drawn.candidates):  # what is on disk is not evaluated again
            design = problem.space.to_json(candidate.design)
            pool.submit(keys[i], {"design": design, "metrics": list(problem.metrics), "seed": i})
        while pool.running():
            ended |= {o.key: o for o in pool.wait(timeout=5)}
    for i, key in enumerate(keys):
        evaluation = ended[key].evaluation if key in ended else None
        if evaluation is not None:
            found = evaluation.measurements
            outcomes[i] = [found[metric].mean for metric in problem.metrics]
    return outcomes, {"failed": sum(o.evaluation is None for o in ended.values())}


def main() -> None:
    """Run what is not measured yet; print what each arm found beside another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--arms", default="random,campaign")
    parser.add_argument("--every", type=int, default=20, help="results between two tunings")
    parser.add_argument("--strain", type=float, help="of the equation of state; the default's")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-hypervolume"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    strain = arguments.strain
    evaluate = {"workers": arguments.workers} | ({} if strain is None else {"eos_strain": strain})
    group = f"{arguments.trials} trials, {'default' if strain is None else strain} strain"
    arms = arguments.arms.split(",")
    for seed in range(arguments.seeds):
        for arm in arms:
            rows = _kept(arguments.out, group).setdefault(arm, {})
            if str(seed) in rows:
                continue
            tune = {"method": arm, "every": arguments.every} if arm in METHODS else None
            spec = spec_for(seed, arguments.trials, work, tune, evaluate)
            started = time.monotonic()
            outcomes, more = (run_random if arm == "random" else run_campaign)(spec, work)
            trace = hypervolume_trace(spec.problem(), outcomes)
            row = (
                {
                    "hypervolume": float(trace[-1]),
                    "trace": [round(float(v), 1) for v in trace],
                    "failed": int(np.isnan(outcomes).any(1).sum()),
                    "minutes": round((time.monotonic() - started) / 60, 2),
                }
                | more
                | ({} if tune is None else {"every": arguments.every})
            )
            print(f"{arm}, seed {seed}: {row['hypervolume']:.0f}", flush=True)
            kept = _kept(arguments.out)
            kept.setdefault(group, {}).setdefault(arm, {})[str(seed)] = row
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
    rows = _kept(arguments.out, group)
    for arm in arms:
        _compare(rows, arm, "random" if arm == "campaign" else "campaign")


def _kept(path: Path, group: str | None = None) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return kept if group is None else dict(kept.get(group, {}))


def _compare(rows: dict[str, Any], arm: str, base: str) -> None:
    """Print hypervolumes of an arm, and by how much they are above those of another."""
    seeds = sorted(set(rows.get(arm, {})) & set(rows.get(base, {})), key=int)
    if len(seeds) < 2:
        return
    for after in (0.3, 0.5, 1.0):
        at = round(after * len(rows[arm][seeds[0]]["trace"])) - 1
        own, other = (np.array([rows[a][s]["trace"][at] for s in seeds]) for a in (arm, base))
        less, half = paired(own, other)
        print(f"{arm} after {at + 1} trials: mean {own.mean():.0f}, less {base} "
              f"{less:+.0f} +- {half:.0f}, {len(seeds)} seeds")  # fmt: skip


def paired(own: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of the differences, and half of its 95 % interval by Student's t."""
    less = own - other
    half = t.ppf(0.975, len(less) - 1) * less.std(ddof=1) / np.sqrt(len(less))
    return float(less.mean()), float(half)


if __name__ == "__main__":
    main()
