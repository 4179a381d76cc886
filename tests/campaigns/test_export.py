"""Campaigns as tables, as JSON, as Ax experiments; files whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import warnings
from importlib import metadata

import pytest

from campaigns import Campaign
from campaigns.errors import MatloopError, UsageError
from campaigns.export import export, export_formats, to_ax, to_csv, to_json
from campaigns.ingestion import keep_artifact, observe
from campaigns.spec import Spec
from campaigns.store.models import Trial
from campaigns.store.store import record
from campaigns.write_file import write_whole

CIF = "data_MgO\n_cell_length_a 2.98\n"
SPEC = {
    "campaign": "mixed",
    "space": {
        "crystal": {"latent": "crystals"},
        "temperature": {"range": [300, 1500], "unit": "K", "log": True},
        "steps": {"range": [1, 5], "integer": True},
        "gas": {"choice": ["air", "argon"]},
        "size": {"choice": [1, 2.5]},
    },
    "objectives": {
        "bulk_modulus": {"goal": "maximize", "unit": "GPa", "threshold": 20},
        "density": {"goal": "minimize", "unit": "g/cm^3"},
        "band_gap": {"goal": "target: 1.4 within 0.1", "unit": "eV"},
    },
    "constraints": ["formation_energy <= -0.3 eV/atom", "density <= 9 g/cm^3"],
    "evaluate": {"with": "lab"},
}
UNITS = {"bulk_modulus": "GPa", "density": "g/cm^3", "band_gap": "eV"}
SPEC_UNITS = UNITS | {"formation_energy": "eV/atom"}
MEASURED = {"bulk_modulus": 160.0, "density": 3.58, "band_gap": 4.9, "formation_energy": -3.1}


def add(campaign, status, *, latent, design=None, measured=None, name="MgO (Fm-3m, 2 atoms)"):
    """Store a trial as the campaign would have: a generator is not needed for it."""
    index = len(campaign.trials())
    here = {"temperature": 900.0, "steps": 2, "gas": "air", "size": 1}
    with campaign.store.write() as session:
        trial = Trial(
            campaign_id=campaign._row.id,
            index=index,
            attempt=0,
            design={"crystal": {"cif": CIF}} | here | (design or {}),
            provenance={
                "name": name,
                "method": "prior",
                "acquisition": None,
                "prediction": {"density": {"mean": 3.4, "sd": 0.2, "unit": "g/cm^3"}},
                "feasibility": 0.9,
                "latent": latent,
                "seed": 7,
                "generators": {"crystal": {"name": "crystals", "version": "abc"}},
                "software": {"matloop": "0"},
            },
        )
        trial.status = "candidate"
        session.add(trial)
        session.flush()
        if status != "candidate":
            trial.move("running")
        if status not in ("candidate", "running"):
            trial.move(status, failure=None if status == "completed" else "it came apart")
        for metric, mean in (measured or {}).items():
            observe(session, trial, metric, mean, 0.5, SPEC_UNITS[metric], "by hand")
        if status == "completed":
            keep_artifact(session, trial, "relaxed.cif", CIF + "# relaxed\n")
        record(session, campaign._row.id, "trials_proposed", trials=[index])


@pytest.fixture
def mixed(tmp_path):
    """A campaign over a latent space and every kind of parameter, with trials of every status."""
    campaign = Campaign.create(Spec.model_validate(SPEC), f"sqlite:///{tmp_path / 'matloop.db'}")
    add(campaign, "completed", latent=[0.5, -5.0], measured=MEASURED)
    add(campaign, "failed", latent=[0.1, 0.2], design={"gas": "argon"})
    add(campaign, "running", latent=[0.3, 0.2], name='quoted "name", with comma')
    add(campaign, "candidate", latent=[0.4, 0.2])
    add(campaign, "abandoned", latent=[0.6, 0.2])
    add(campaign, "completed", latent=[0.7, 1.0], measured=MEASURED | {"density": 3.0})
    with campaign:
        yield campaign


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# CSV


def test_csv_has_a_row_a_trial_and_units_in_its_header(mixed, tmp_path):
    out = to_csv(mixed, tmp_path / "mixed.csv")
    rows = read_table(out)
    assert [row["trial"] for row in rows] == list("012345")
    assert [row["status"] for row in rows] == list(mixed.trials()["status"])
    first = rows[0]
    assert float(first["bulk_modulus (GPa)"]) == 160.0
    assert float(first["bulk_modulus_sem (GPa)"]) == 0.5
    assert float(first["density_predicted (g/cm^3)"]) == 3.4
    assert float(first["density_predicted_sd (g/cm^3)"]) == 0.2
    assert first["bulk_modulus_predicted (GPa)"] == ""
    assert first["temperature (K)"] == "900.0"
    assert (first["gas"], first["generator"]) == ("air", "crystals abc")
    assert (first["source"], first["seed"]) == ("by hand", "7")
    assert rows[1]["failure"] == "it came apart"
    assert rows[2]["name"] == 'quoted "name", with comma'
    assert [row["front"] for row in rows] == ["no", "no", "no", "no", "no", "yes"]


def test_csv_puts_the_crystals_beside_it(mixed, tmp_path):
    row = read_table(to_csv(mixed, tmp_path / "mixed.csv"))[0]
    assert (tmp_path / row["crystal_cif"]).read_text() == CIF
    assert (tmp_path / row["relaxed_cif"]).read_text() == CIF + "# relaxed\n"


def test_csv_of_a_campaign_without_trials(tmp_path):
    with Campaign.create(Spec.model_validate(SPEC), f"sqlite:///{tmp_path / 'm.db'}") as empty:
        assert read_table(to_csv(empty, tmp_path / "empty.csv")) == []
    assert not (tmp_path / "empty.cif").exists()


# JSON


def test_json_holds_everything(mixed, tmp_path):
    out = to_json(mixed, tmp_path / "mixed.json")
    document = json.loads(out.read_text())
    assert (document["schema"], document["campaign"]) == (1, "mixed")
    assert Spec.model_validate(document["spec"]) == mixed.spec
    assert [t["status"] for t in document["trials"]] == list(mixed.trials()["status"])
    assert document["trials"][0] == mixed.trial(0) | {"artifacts": mixed.artifacts(0)}
    assert len(document["observations"]) == 8
    assert {o["metric"] for o in document["observations"]} == set(SPEC_UNITS)
    assert document["events"][0]["kind"] == "campaign_created"
    assert document["status"]["front"] == [5]


# Ax


@pytest.fixture
def loaded(mixed, tmp_path):
    """The Ax client that loads what was exported of `mixed`."""
    return load_ax(to_ax(mixed, tmp_path / "mixed.ax.json"))


def load_ax(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ax.api.client import Client

        return Client.load_from_json_file(str(path))


def test_ax_has_the_space_and_the_goals(loaded):
    space = loaded._experiment.search_space.parameters
    assert set(space) == {"z_0", "z_1", "temperature", "steps", "gas", "size"}
    assert space["z_1"].lower < -5.0 < 5.0 < space["z_1"].upper
    assert space["temperature"].log_scale
    assert (space["steps"].lower, space["steps"].upper) == (1, 5)
    assert space["gas"].values == ["air", "argon"]
    assert space["size"].values == [1.0, 2.5]
    config = loaded._experiment.optimization_config
    assert config.objective.expression == "bulk_modulus, -density, -band_gap_from_target"
    assert {str(c) for c in config.outcome_constraints} == {
        "OutcomeConstraint(formation_energy <= -0.3)"
    }
    assert {str(c) for c in config.objective_thresholds} == {
        "OutcomeConstraint(bulk_modulus >= 20)",
        "OutcomeConstraint(density <= 9)",
    }
    assert "bulk_modulus in GPa" in loaded._experiment.description


def test_ax_has_the_trials_with_names_and_provenance(loaded, mixed):
    trials = loaded._experiment.trials
    statuses = [trial.status.name.lower() for trial in trials.values()]
    assert statuses == list(mixed.trials()["status"])
    assert trials[0].arm.name == "0 MgO (Fm-3m, 2 atoms)"
    assert trials[0].arm.parameters == {
        "z_0": 0.5, "z_1": -5.0, "temperature": 900.0, "steps": 2, "gas": "air", "size": 1.0,
    }  # fmt: skip
    run = trials[0].generator_runs[0]
    assert run._generator_key == "matloop prior"
    assert run.gen_metadata["generators"]["crystal"]["version"] == "abc"
    (told,) = run.candidate_metadata_by_arm_signature.values()
    assert told["prediction"]["density"]["mean"] == 3.4
    assert trials[0].run_metadata["design"]["crystal"]["cif"] == CIF
    assert trials[1].status_reason == "it came apart"


def test_ax_summarizes_and_analyses_what_was_exported(loaded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ax.analysis.summary import Summary

        table = loaded.summarize()
        (card,) = loaded.compute_analyses([Summary()], display=False)
    assert list(table["trial_index"]) == [0, 1, 2, 3, 4, 5]
    row = table.set_index("trial_index").loc[0]
    assert row["bulk_modulus"] == 160.0
    assert row["band_gap"] == 4.9
    assert row["band_gap_from_target"] == pytest.approx(3.5)
    assert len(card.df) == 6


def test_ax_takes_metrics_whose_names_mean_something_to_sympy(tmp_path):
    spec = Spec.model_validate(
        {
            "campaign": "names",
            "space": {"z_1": {"range": [0, 1]}},
            "objectives": {"E": {"goal": "maximize", "unit": "GPa"}},
            "constraints": ["E >= 3 GPa", "S <= 2 K", "lambda_1 >= 0.1 nm", "is <= 1e-9 m"],
            "evaluate": {"with": "lab"},
        }
    )
    with Campaign.create(spec, f"sqlite:///{tmp_path / 'm.db'}") as campaign:
        client = load_ax(to_ax(campaign, tmp_path / "names.ax.json"))
    config = client._experiment.optimization_config
    assert config.objective.metric_names == ["E_metric"]
    assert {str(c) for c in config.outcome_constraints} == {
        "OutcomeConstraint(S_metric <= 2)",
        "OutcomeConstraint(lambda_1 >= 0.1)",
        "OutcomeConstraint(is_metric <= 1e-09)",
    }
    assert "Ax cannot: E_metric >= 3.0" in client._experiment.description


def test_ax_takes_the_limits_that_it_knows(tmp_path):
    spec = Spec.model_validate(
        {
            "campaign": "limits",
            "space": {n: {"range": [0, 2]} for n in "abE"} | {"p": {"range": [1, 9], "log": True}},
            "constraints": [
                "2*a + b <= 3",
                "a - b >= -1.5",
                "a + b == 1.5",
                "a + E <= 2",
                "a + p <= 9",
            ],
            "objectives": {"y": {"goal": "maximize", "unit": "GPa"}},
            "evaluate": {"with": "lab"},
        }
    )
    with Campaign.create(spec, f"sqlite:///{tmp_path / 'm.db'}") as campaign:
        client = load_ax(to_ax(campaign, tmp_path / "limits.ax.json"))
    known = client._experiment.search_space.parameter_constraints
    assert {(str(sorted(c.constraint_dict.items())), c.bound) for c in known} == {
        ("[('a', 2.0), ('b', 1.0)]", 3.0),
        ("[('a', -1.0), ('b', 1.0)]", 1.5),
    }
    for unsaid in ("a + b == 1.5", "a + E <= 2", "a + p <= 9"):
        assert f"that {unsaid}" in client._experiment.description


def test_ax_of_a_latent_space_without_trials_says_why_not(tmp_path):
    spec = Spec.model_validate(SPEC | {"space": {"crystal": {"latent": "crystals"}}})
    campaign = Campaign.create(spec, f"sqlite:///{tmp_path / 'm.db'}")
    with pytest.raises(MatloopError, match="needs parameters"):
        to_ax(campaign, tmp_path / "x.ax.json")
    assert not list(tmp_path.glob("*x.ax*"))


# Files


def test_formats_are_those_that_are_installed(mixed, tmp_path):
    assert {"csv", "json", "ax", "report"} <= set(export_formats())
    with pytest.raises(UsageError, match="there is no export format 'cvs'") as caught:
        export(mixed, "cvs", tmp_path)
    assert caught.value.hint == "did you mean 'csv'?"


def test_where_an_export_goes(mixed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export(mixed, "json").name == "mixed.json"
    (tmp_path / "folder").mkdir()
    assert export(mixed, "json", tmp_path / "folder") == tmp_path / "folder" / "mixed.json"
    with pytest.raises(UsageError, match="there is no folder"):
        export(mixed, "json", tmp_path / "nowhere" / "x.json")
    with pytest.raises(UsageError, match="something else is there"):
        export(mixed, "json", os.devnull)


def test_an_export_overwrites_only_its_kind(mixed, tmp_path):
    db = mixed.store.path
    (tmp_path / "link.json").symlink_to(db)
    for path in (db, db.with_name(db.name + "-wal"), tmp_path / "link.json"):
        with pytest.raises(UsageError, match="own database"):
            export(mixed, "json", path)
    spec = tmp_path / "mixed.yaml"
    spec.write_text("mine")
    with pytest.raises(UsageError, match=r"does not end in \.csv"):
        export(mixed, "csv", spec)
    assert spec.read_text() == "mine"
    for _ in range(2):
        export(mixed, "json", tmp_path / "Mine.JSON")


def test_a_format_that_cannot_be_loaded_is_one_clear_error(mixed, tmp_path, monkeypatch):
    entry = metadata.EntryPoint("odd", "no_such_module:to_odd", "matloop.exporters")
    found = metadata.EntryPoints([entry])
    monkeypatch.setattr(metadata, "entry_points", lambda **wanted: found.select(**wanted))
    with pytest.raises(MatloopError, match="cannot be loaded") as caught:
        export(mixed, "odd", tmp_path)
    assert "no_such_module" in caught.value.why


def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "file.json", "before")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MatloopError, match="cannot be written") as caught:
        write_whole(path, "after")
    assert caught.value.why == "No space left on device"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]
    assert path.read_text() == "before"


def test_writing_keeps_the_mode_and_follows_a_link(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to(file)
    write_whole(link, "after")
    assert file.read_text() == "after"
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
