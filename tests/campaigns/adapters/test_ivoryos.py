"""With IvoryOS's own optimiser base class, as its workflow runner calls it."""

from __future__ import annotations

import inspect

import pytest

from campaigns.errors import MatloopError
from tests.campaigns.served import LAB

pytest.importorskip("ivoryos", reason="IVORYOS NOT TESTED: pip install '.[adapters]'")

from ivoryos.optimizer.base_optimizer import OptimizerBase

from campaigns.adapters.ivoryos import MatloopOptimizer, connected

SPACE = [
    {"name": "x", "type": "range", "bounds": [0.0, 1.0], "value_type": "float"},
    {"name": "n", "type": "range", "bounds": [1, 5], "value_type": "int"},
    {"name": "w", "type": "range", "bounds": [0.0, 1.0, 0.25], "value_type": "float"},
    {"name": "gas", "type": "choice", "bounds": ["air", "argon"], "value_type": "str"},
]
GOALS = [{"name": "hardness", "minimize": False, "weight": 1}, {"name": "cost", "minimize": True}]


def test_it_has_every_method_of_ivoryos_with_its_arguments() -> None:
    assert issubclass(MatloopOptimizer, OptimizerBase)
    wanted = inspect.signature(OptimizerBase.__init__).parameters
    assert set(inspect.signature(MatloopOptimizer.__init__).parameters) == set(wanted)
    for name in ("suggest", "observe", "append_existing_data", "get_plots"):
        ours = inspect.signature(getattr(MatloopOptimizer, name)).parameters
        assert set(ours) == set(inspect.signature(getattr(OptimizerBase, name)).parameters), name
    assert MatloopOptimizer.get_schema().keys() == OptimizerBase.get_schema().keys()


def test_a_workflow_works_a_campaign_off(served) -> None:
    toy = served.toy(5, LAB)
    optimizer = connected(served.url, served.key, toy.name, patience=5.0)("run 1", [], [])
    for _ in range(2):
        asked = optimizer.suggest(n=2)
        optimizer.observe([{**p, "hardness": p["x"], "cost": 1 + p["y"]} for p in asked])
    optimizer.suggest(n=1)
    optimizer.observe([{"hardness": float("nan"), "cost": 1.0}])
    assert toy.statuses() == ["completed"] * 4 + ["failed"]
    for trial in toy.trials()[:4]:
        assert trial["observations"]["hardness"]["mean"] == trial["design"]["x"]
    (page,) = optimizer.get_plots("all").values()
    assert "trial" in page
    optimizer.close()


@pytest.mark.parametrize("how", ["fewer", "mixed up"])
def test_results_that_cannot_be_matched_are_refused(served, how) -> None:
    toy = served.toy(2, LAB)
    optimizer = connected(served.url, served.key, toy.name, patience=5.0)("run", [], [])
    a, b = ({**p, "hardness": 1.0, "cost": 1.0} for p in optimizer.suggest(n=2))
    with pytest.raises(MatloopError, match=r"results came|other parameters"):
        optimizer.observe([a] if how == "fewer" else [b, a])
    assert toy.statuses() == ["candidate", "candidate"]
    optimizer.close()


def test_an_experiment_of_ivoryos_becomes_a_campaign_and_takes_its_history(served) -> None:
    import pandas as pd

    made = connected(served.url, served.key, patience=0.5)
    optimizer = made("My run (3)", SPACE, GOALS, {"step_1": {"model": "campaign"}})
    past = pd.DataFrame(
        [{"x": 0.5, "n": 2, "w": 0.25, "gas": "air", "hardness": 3.0, "cost": 1.0},
         {"x": 0.6, "n": 3, "w": 0.75, "gas": "argon", "hardness": 4.0, "cost": 2.0}]
    )  # fmt: skip
    optimizer.append_existing_data(past)
    optimizer.append_existing_data(past)
    with served.client() as client:
        status = client.status("My-run-3")
        assert status["counts"]["completed"] == 2
        assert {o["metric"]: o["goal"] for o in status["objectives"]} == {
            "hardness": "maximize", "cost": "minimize",
        }  # fmt: skip
    with pytest.raises(MatloopError, match="no trial to give"):  # nobody proposes in this test
        optimizer.suggest(1)
    optimizer.close()
    again = connected(served.url, served.key)("My run (3)", SPACE, GOALS)
    assert again.bench.campaign == "My-run-3"
    again.close()
