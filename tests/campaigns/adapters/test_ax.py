"""An Ax experiment into a campaign and out again."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest

from campaigns.adapters.ax import begin_from_ax, spec_from_ax
from campaigns.campaign import Campaign
from campaigns.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ax.api.client import Client as AxClient
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def experiment(objective: str = "strength, -cost", **more: list[str]) -> AxClient:
    made = AxClient(random_seed=1)
    made.configure_experiment(
        name="steel",
        parameters=[
            RangeParameterConfig("t", (900.0, 1500.0), "float"),
            RangeParameterConfig("p", (1e-3, 1.0), "float", scaling="log"),
            RangeParameterConfig("n", (1, 5), "int"),
            ChoiceParameterConfig("gas", ["air", "argon"], "str"),
        ],
        parameter_constraints=["t + 100*n <= 1900"],
    )
    made.configure_optimization(objective=objective, **more)
    return made


def point(t: float, gas: str = "air") -> dict[str, float | int | str]:
    return {"t": t, "p": 0.1, "n": 2, "gas": gas}


def test_a_spec_seeks_what_the_experiment_seeks() -> None:
    spec = spec_from_ax(
        experiment(outcome_constraints=["density >= 1", "cost <= 3"]),
        units={"strength": "MPa", "t": "K", "density": "g/cm^3"},
    )
    assert spec["objectives"] == {
        "strength": {"goal": "maximize", "unit": "MPa"},
        "cost": {"goal": "minimize", "unit": "dimensionless", "threshold": 3.0},
    }
    assert spec["space"]["p"] == {"range": [1e-3, 1.0], "log": True}
    assert spec["space"]["t"] == {"range": [900.0, 1500.0], "unit": "K"}
    assert spec["space"]["n"]["integer"]
    assert "density >= 1.0 g/cm^3" in spec["constraints"]


def test_what_has_no_counterpart_is_refused() -> None:
    with pytest.raises(UsageError, match="sum of metrics"):
        spec_from_ax(experiment("strength + 2*cost"))
    empty = AxClient()
    empty.configure_experiment([RangeParameterConfig("t", (0, 1), "float")], name="e")
    with pytest.raises(UsageError, match="no objective"):
        spec_from_ax(empty)


def test_trials_come_in_once_with_their_ends_and_go_out_again(served) -> None:
    ax = experiment()
    for t, gas in ((1000.0, "air"), (1100.0, "argon"), (1200.0, "air"), (1300.0, "air")):
        ax.attach_trial(point(t, gas))
    ax.complete_trial(0, {"strength": (5.0, 0.5), "cost": 2.0})
    ax.mark_trial_failed(1, failed_reason="it melted")
    ax.mark_trial_abandoned(2)
    with served.client() as client:
        found = begin_from_ax(client, ax, units={"strength": "MPa"})
        assert found == {0: 0, 1: 1, 2: 2, 3: 3}
        trials = list(client.trials("steel"))
        assert [t["status"] for t in trials] == ["completed", "failed", "abandoned", "candidate"]
        assert trials[0]["observations"]["strength"]["sem"] == 0.5
        assert trials[1]["failure"] == "it melted"
        # Brought up to date: nothing twice.
        ax.complete_trial(3, {"strength": 6.0, "cost": 1.0})
        assert begin_from_ax(client, ax) == found
        assert [t["status"] for t in client.trials("steel")][3] == "completed"
        assert len(client.observations("steel")) == 4
    from campaigns.export_ax import ax_client

    with Campaign.open("steel", served.db) as campaign:
        out = ax_client(campaign)._experiment
    for index, trial in ax._experiment.trials.items():
        assert out.trials[index].arms[0].parameters == trial.arms[0].parameters
        assert out.trials[index].status == trial.status
    ours, theirs = (
        {(r.trial_index, r.metric_name): r.mean for r in e.lookup_data().df.itertuples()}
        for e in (out, ax._experiment)
    )
    assert ours == theirs
