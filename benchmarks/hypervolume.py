"""Hypervolume of the light-stiff campaign over random sampling from the same generator's prior.

Both arms face the same problem, the same screen and the same evaluator; the random arm draws its
designs from the prior and screens them, the other is the campaign as `matloop run` runs it. Every
evaluation is kept under the work folder, so an interrupted benchmark goes on where it was.

    python benchmarks/hypervolume.py --seeds 5 --trials 40
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

from campaigns import Campaign
from campaigns.spec import Spec, load_spec
from campaigns.templates import write_template
from loop import History, ProposalSettings, hypervolume_trace, propose
from loop.executor import LocalPool, Outcome

TEMPLATE = "light-stiff"
RESULTS = Path(__file__).parent / "results" / "hypervolume.json"


def spec_for(seed: int, trials: int, work: Path) -> Spec:
    """The ready campaign with this seed and budget, and no rule that stops it early."""
    folder = work / "spec"
    if not (folder / f"{TEMPLATE}.yaml").is_file():
        write_template(TEMPLATE, folder)
    spec = load_spec(folder / f"{TEMPLATE}.yaml")
    data = spec.model_dump(mode="json", by_alias=True)
    data |= {"campaign": f"{TEMPLATE}-{seed}", "seed": seed}
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
    """Run both arms for every seed and print the ratio of their hypervolumes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-hypervolume"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [{"seed": seed} for seed in range(arguments.seeds)]
    for arm, run in (("random", run_random), ("campaign", run_campaign)):
        for row in rows:
            spec = spec_for(row["seed"], arguments.trials, work)
            started = time.monotonic()
            outcomes, more = run(spec, work)
            trace = hypervolume_trace(spec.problem(), outcomes)
            row[arm] = {
                "hypervolume": float(trace[-1]),
                "trace": [round(float(v), 1) for v in trace],
                "failed": int(np.isnan(outcomes).any(1).sum()),
                "minutes": round((time.monotonic() - started) / 60, 2),
            } | more
            print(f"{arm}, seed {row['seed']}: {row[arm]['hypervolume']:.0f}", flush=True)
    summary = _summary(rows, arguments.trials)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    kept |= {"summary": summary, "runs": rows}
    arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def _summary(rows: list[dict[str, Any]], trials: int) -> dict[str, Any]:
    campaign = np.array([r["campaign"]["hypervolume"] for r in rows])
    random = np.array([r["random"]["hypervolume"] for r in rows])
    draws = np.random.default_rng(0).integers(len(rows), size=(10_000, len(rows), 2))
    ratios = np.median(campaign[draws[..., 0]], 1) / np.median(random[draws[..., 1]], 1)
    return {
        "trials": trials,
        "seeds": len(rows),
        "unit": "GPa g/cm^3 beyond 20 GPa and 9 g/cm^3",
        "median_campaign": float(np.median(campaign)),
        "median_random": float(np.median(random)),
        "ratio_of_medians": float(np.median(campaign) / np.median(random)),
        "ratio_95_bootstrap": [float(v) for v in np.quantile(ratios, [0.025, 0.975])],
    }


if __name__ == "__main__":
    main()
