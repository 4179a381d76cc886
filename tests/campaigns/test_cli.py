"""The command line, as a person and a program use it; real runs, real child processes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from campaigns import Campaign
from campaigns.cli import main
from campaigns.cli_doctor import Check
from campaigns.templates import template_names

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "init", "validate", "run", "propose", "explain", "ingest", "status", "export", "backtest",
    "doctor",
)  # fmt: skip
GENERATORS = ("list", "show", "sample", "complete", "evaluate", "train", "fit-prior", "tune")
HEAVY = ("torch", "botorch", "ax", "pymatgen", "pandas", "scipy", "sqlalchemy", "pint")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def matloop(capsys):
    """Give a command; its exit status, standard output and standard error."""

    def give(*words):
        status = main([str(word) for word in words])
        told = capsys.readouterr()
        return status, told.out, told.err

    return give


@pytest.fixture
def matloop_json(matloop):
    """Give a command with --json; its exit status and the document."""

    def give(*words):
        status, out, _ = matloop(*words, "--json")
        document = json.loads(out)
        assert document["schema"] == 1
        assert document["ok"] == (status == 0)
        return status, document

    return give


def process(*words, **more):
    """Give a command in a process of its own."""
    code = "import sys; from campaigns.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, **more,
    )  # fmt: skip


# Help


def test_help_is_there_at_once():
    code = (
        "import sys, time\nfrom campaigns.cli import main\n"
        "for words in ([], ['run'], ['generators', 'train']): main([*words, '--help'])\n"
        f"print([m for m in {HEAVY} if m in sys.modules], time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy, seconds = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert heavy == "[]"
    # of this processor alone: what else runs here counts for nothing
    assert float(seconds) < 1.0


def test_help_names_every_command_and_how_to_begin(matloop):
    status, out, _ = matloop("--help")
    assert status == 0
    for command in (*COMMANDS, "generators"):
        assert f" {command} " in out
    assert "matloop run mine/light-stiff.yaml" in out
    assert matloop("-h")[1] == out


@pytest.mark.parametrize(
    "words", [(c,) for c in COMMANDS] + [("generators", c) for c in GENERATORS]
)
def test_every_command_has_help_json_and_db(matloop, words):
    status, out, _ = matloop(*words, "--help")
    assert status == 0
    assert "--json" in out
    # --db is taken, where it means something and where it does not
    _, _, err = matloop(*words, "--db", "sqlite:///x.db", "--nonsense")
    assert "no such option: --nonsense" in err


def test_no_command_shows_the_help(matloop):
    status, out, err = matloop()
    assert (status, err) == (2, "")
    assert "Usage: matloop" in out


def test_the_version(matloop):
    from campaigns import __version__

    assert matloop("--version") == (0, f"matloop {__version__}\n", "")


# Wrong use


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["frobnicate"], "no such command 'frobnicate'"),
        (["run"], "missing argument 'SPEC'"),
        (["run", "x.yaml", "--budgte", "3"], "--budget"),
        (["run", "x.yaml", "--budget", "0"], "'--budget'"),
        (["run", "x.yaml", "--budget", "many"], "'--budget'"),
        (["export", "toy"], "missing option '--format'"),
        (["status", "--db", "matloop.db"], "this is not a database URL"),
        (["status", "--db", "mysql://host/x"], "SQLite or PostgreSQL"),
        (["status"], "there is no database"),
        (["status", "--db", "postgresql://u:secret@h:abc/d"], "this is not a database URL"),
        (["propose", "x" * 300, "--out", "y" * 300], "there is no database"),
        (["propose", "nope", "--out", "dd"], "there is no database"),
        (["run", "nowhere.yaml"], "the file does not exist"),
        (["init", "--template", "light-stif"], "there is no template 'light-stif'"),
        (["generators", "show", "no-such"], "there is no generator 'no-such'"),
        (["generators", "sample", "no-such"], "there is no generator 'no-such'"),
        (["generators", "evaluate", "no-such"], "there is no generator 'no-such'"),
    ],
)
def test_wrong_use_is_one_clear_error_and_status_2(matloop, matloop_json, words, told):
    status, out, err = matloop(*words)
    assert status == 2
    assert out.replace(f"measuring {words[-1]}\n", "") == ""
    assert err.startswith("error: ")
    assert told in err
    assert "Traceback" not in err
    status, document = matloop_json(*words)
    assert (status, document["error"]["exit_status"]) == (2, 2)
    assert told in document["error"]["what"]


@pytest.mark.parametrize("name", ["", "**", "[", "x" * 300, "\udcff", "a\0b"])
def test_a_name_that_cannot_be_is_one_clear_error(matloop, matloop_json, toy, name):
    Campaign.create(toy.write(lab=True)).close()
    for words in (["status", name], ["run", name], ["export", name, "--format", "csv"]):
        assert "there is no campaign" in matloop(*words)[2]
        assert matloop_json(*words)[0] == 2
    assert matloop("propose", "toy", "--out", "y" * 300)[0] == 1
    assert matloop("export", "toy", "--format", "csv", "--out", "y" * 300)[0] == 1
    assert Campaign.open("toy").trials().empty


def test_what_only_looks_makes_nothing(matloop, toy):
    toy.write(lab=True)
    assert matloop("propose", toy.spec, "--waiting")[0] == 2
    assert not Path("matloop.db").exists()
    Path("e.csv").touch()
    status, _, err = matloop("status", "--db", "sqlite:///e.csv")
    assert (status, Path("e.csv").read_bytes()) == (2, b"")
    assert "there is no database" in err
    assert matloop("propose", "nope", "--out", "dd")[0] == 2
    assert not Path("dd").exists()


def test_a_name_that_may_mean_a_spec_gets_a_hint(matloop, toy):
    toy.write()
    Campaign.create(toy.spec, toy.db).close()
    toy.spec.rename(toy.folder / "other.yaml")
    assert "did you mean other.yaml?" in matloop("run", "other")[2]
    assert "did you mean other.yaml?" in matloop("run", ".")[2]


def test_a_defect_is_one_line_and_a_traceback_to_send(matloop, matloop_json, monkeypatch):
    def broken(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("campaigns.templates.write_template", broken)
    status, _, err = matloop("init")
    assert status == 1
    assert "failed in a way it should not: RuntimeError: two lines" in err
    assert "Traceback" not in err
    saved = Path(err.split("its traceback is in ")[1].split(";")[0])
    assert "in broken" in saved.read_text()
    saved.unlink()
    status, _, err = matloop("init", "--debug")
    assert status == 1
    assert err.startswith("Traceback")
    _, document = matloop_json("init")
    assert "RuntimeError" in document["error"]["what"]
    Path(document["error"]["hint"].split("its traceback is in ")[1].split(";")[0]).unlink()


# Beginning


@pytest.mark.parametrize("template", template_names())
def test_what_init_writes_is_valid(matloop, template):
    status, out, _ = matloop("init", "mine", "--template", template)
    assert status == 0
    assert f"next: matloop run mine/{template}.yaml" in out
    assert Path("mine/matloop.schema.json").exists()
    status, out, _ = matloop("validate", f"mine/{template}.yaml")
    assert status == 0
    assert "is right" in out


def test_init_overwrites_nothing(matloop):
    matloop("init")
    Path("light-stiff.yaml").write_text("mine")
    status, _, err = matloop("init")
    assert status == 2
    assert "is there already" in err
    status, _, err = matloop("init", "light-stiff.yaml")
    assert status == 2
    assert "is a file, a folder was wanted" in err
    assert Path("light-stiff.yaml").read_text() == "mine"


def test_validate_names_every_mistake(toy, matloop, matloop_json):
    text = toy.write().read_text().replace("unit: GPa", "unit: GPaa").replace("seed:", "sed:")
    toy.spec.write_text(text)
    status, _, err = matloop("validate", toy.spec)
    assert status == 2
    assert "did you mean 'GPa'?" in err
    assert "unknown key 'sed'" in err
    assert matloop("run", toy.spec)[0] == 2
    assert not Path("matloop.db").exists()
    _, document = matloop_json("validate", toy.spec)
    lines = [problem["where"].rsplit(":", 2)[1] for problem in document["error"]["problems"]]
    assert lines == ["7", "13"]


def test_validate_tells_what_the_spec_asks_for(toy, matloop, matloop_json):
    status, out, _ = matloop("validate", toy.write())
    assert status == 0
    assert "to maximize hardness (GPa), to minimize cost (dimensionless)" in out
    _, document = matloop_json("validate", toy.spec)
    assert document["data"]["content"]["budget"]["trials"] == 6


# Running


def test_run_to_its_end_and_look_at_it(toy, matloop, matloop_json):
    toy.write(trials=4, melts_above=0.8)
    status, out, err = matloop("run", toy.spec)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("toy: a new campaign in ")
    assert sum(" completed in " in line for line in lines) == 2
    assert sum("failed: ValueError: it melted" in line for line in lines) == 2
    assert any("best so far: hardness " in line for line in lines)
    assert "toy: the budget of 4 trials is spent; 4 of 4 trials: 2 completed, 2 failed" in lines
    assert lines[-1] == "next: matloop export toy --format report"

    # again: there is nothing to do, and that is done
    status, out, _ = matloop("run", "toy")
    assert status == 0
    assert "started" not in out

    status, out, err = matloop("run", toy.spec, "--budget", "6", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["command"] == "run"
    assert document["data"]["reason"] == "budget"
    assert document["data"]["counted"] == 6
    assert "trial 4 started" in err

    status, out, _ = matloop("status")
    assert status == 0
    assert "toy: 6 of 4 trials" in out
    assert "it melted" in out
    _, document = matloop_json("status", "toy")
    assert {f["reason"] for f in document["data"]["failures"]} == {"ValueError: it melted"}
    _, document = matloop_json("status")
    assert [c["campaign"] for c in document["data"]["campaigns"]] == ["toy"]

    for format in ("csv", "json"):
        status, out, _ = matloop("export", "toy", "--format", format)
        assert (status, out) == (0, f"wrote toy.{format}\n")
    status, _, err = matloop("export", "toy", "--format", "csv", "--out", "no/where.csv")
    assert status == 2
    assert "there is no folder no" in err


def test_several_campaigns_and_another_database(toy, matloop, matloop_json):
    toy.write(lab=True)
    db = f"sqlite:///{toy.folder / 'other.db'}"
    for name in ("first", "second"):
        spec = toy.folder / f"{name}.yaml"
        spec.write_text(toy.spec.read_text().replace("toy", name))
        _, out, _ = matloop("propose", spec, "-n", "1", "--db", db)
        assert f"next: matloop propose {name} --db {db} --waiting" in out
    status, out, _ = matloop("status", "--db", db)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if "1 of 6" in line] == [
        "first", "second",
    ]  # fmt: skip
    _, document = matloop_json("status", "--db", db)
    assert len(document["data"]["campaigns"]) == 2
    status, _, err = matloop("status", "frist", "--db", db)
    assert status == 2
    assert "it has first, second" in err


def test_what_of_a_spec_may_change(toy, matloop):
    toy.write(lab=True)
    assert matloop("run", toy.spec)[0] == 0
    toy.write(lab=True, trials=9)
    status, out, _ = matloop("run", toy.spec)
    assert status == 0
    assert "toy: takes the spec's new budget" in out
    toy.spec.write_text(toy.spec.read_text().replace("goal: maximize", "goal: minimize"))
    status, _, err = matloop("run", toy.spec)
    assert status == 2
    assert "they differ in objectives" in err
    assert matloop("run", "toy", "--seed", "5")[0] == 2


def test_the_seed_of_a_new_campaign(toy, matloop):
    toy.write(lab=True)
    assert matloop("run", toy.spec, "--seed", "5")[0] == 0
    assert Campaign.open("toy").spec.seed == 5
    assert matloop("run", toy.spec)[0] == 0
    assert matloop("propose", toy.spec, "-n", "1")[0] == 0
    assert Campaign.open("toy").spec.seed == 5
    status, _, err = matloop("run", toy.spec, "--seed", "6")
    assert status == 2
    assert "they differ in seed" in err


def test_a_run_of_a_laboratory_says_what_to_do(toy, matloop):
    toy.write(lab=True)
    status, out, _ = matloop("run", toy.spec)
    assert status == 0
    assert "2 trials wait for results" in out
    assert "next: matloop propose toy --waiting --out DIR" in out


def test_a_proposal_says_what_there_is_to_know(toy, matloop, matloop_json):
    toy.write(lab=True)
    _, document = matloop_json("propose", toy.spec, "-n", "2")
    assert document["data"]["notes"] == ["drawn from the prior: 0 completed, 3 wanted first"]
    status, out, _ = matloop("propose", toy.spec, "-n", "1")
    assert status == 0
    assert "(drawn from the prior: 0 completed, 3 wanted first)" in out
    _, document = matloop_json("propose", toy.spec, "--waiting")
    assert "notes" not in document["data"]


# By hand


def fill(table, out, values):
    """Fill in a handed-out table: by column and row."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, cells in values.items():
        for row, cell in zip(rows, cells, strict=True):
            assert column in row
            row[column] = cell
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_what_is_handed_out_comes_back_filled_in(toy, matloop, matloop_json):
    toy.write(lab=True)
    text = toy.spec.read_text().replace("x: {range: [0, 1]}", "x: {range: [900, 1500], unit: K}")
    toy.spec.write_text(text.replace("y: {", "gas: {choice: [air, argon]}\n  y: {"))
    status, out, _ = matloop("propose", toy.spec, "-n", "3", "--out", "batch")
    assert status == 0
    assert "next: matloop ingest toy batch/candidates.csv --dry-run" in out
    filled = Path("filled.csv")
    rows = fill(
        Path("batch/candidates.csv"),
        filled,
        {
            "hardness (GPa)": ["90.5", "91", ""],
            "hardness_sem (GPa)": ["0.5", "", ""],
            "cost (dimensionless)": ["1", "2", ""],
            "serial (dimensionless)": ["1", "2", ""],
            "status": ["", "completed", "failed"],
            "reason": ["", "", "cracked"],
        },
    )
    assert list(rows[0])[:5] == ["trial", "name", "x (K)", "gas", "y (dimensionless)"]

    _, document = matloop_json("ingest", "toy", filled, "--dry-run")
    assert document["data"]["dry_run"]
    assert Campaign.open("toy").status()["counts"]["candidate"] == 3
    status, out, _ = matloop("ingest", "toy", filled)
    assert status == 0
    assert "took in filled.csv: 6 new values" in out
    assert "completed: trials 0, 1" in out
    assert "failed: trial 2" in out
    assert "taken in before: nothing changed" in matloop("ingest", toy.spec, filled)[1]
    trials = Campaign.open("toy").trials()
    assert trials["hardness"].tolist()[:2] == [90.5, 91.0]
    assert trials["failure"][2] == "cracked"


def test_rows_that_were_mixed_up_are_found(toy, matloop):
    toy.write(lab=True)
    matloop("propose", toy.spec, "--out", "batch")
    values = {"hardness (GPa)": ["1", "2"], "trial": ["1", "0"]}
    fill(Path("batch/candidates.csv"), Path("mixed.csv"), values)
    status, _, err = matloop("ingest", "toy", "mixed.csv")
    assert status == 2
    assert "are the rows mixed up?" in err
    assert "row 2, column x" in err
    assert "row 3, column name" in err


def test_a_decimal_comma_is_an_error(toy, matloop):
    toy.write(lab=True)
    matloop("propose", toy.spec, "--out", "batch")
    values = {"hardness (GPa)": ["90,5", "91,5"]}
    fill(Path("batch/candidates.csv"), Path("comma.csv"), values)
    status, _, err = matloop("ingest", "toy", "comma.csv")
    assert status == 2
    assert "decimals have a point, 90.5" in err
    assert "unchanged: the campaign" in err


def test_a_handout_overwrites_no_results(toy, matloop):
    toy.write(lab=True)
    matloop("propose", toy.spec, "--out", "batch")
    before = Path("batch/candidates.csv").read_text()
    status, _, err = matloop("propose", "toy", "--out", "batch")
    assert status == 2
    assert "results may be filled in there" in err
    assert len(Campaign.open("toy").trials()) == 2
    status, _, _ = matloop("propose", "toy", "--waiting", "--out", "again")
    assert status == 0
    assert Path("again/candidates.csv").read_text() == before
    assert len(Campaign.open("toy").trials()) == 2


def test_nothing_waits(toy, matloop):
    toy.write(lab=True)
    Campaign.create(toy.spec).close()
    status, out, _ = matloop("propose", "toy", "--waiting", "--out", "none")
    assert (status, out) == (0, "no candidate waits for results\n")


# Signals and pipes


def test_ctrl_c_is_a_clean_end_and_the_run_goes_on(toy, matloop):
    toy.write(trials=6, sleep=1.0)
    with process("run", toy.spec) as run:
        for line in run.stdout:
            if "trial 0 started" in line:
                break
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err.startswith("error: interrupted")
    assert "Traceback" not in out + err
    toy.write(trials=2)
    status, out, _ = matloop("run", toy.spec)
    assert status == 0
    assert "2 of 2 trials: 2 completed" in out


def test_ctrl_c_elsewhere(matloop, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("campaigns.templates.write_template", interrupted)
    status, _, err = matloop("init")
    assert status == 130
    assert err.startswith("error: interrupted")


@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"]])
def test_nobody_reads_any_more(toy, words):
    toy.write(lab=True)
    Campaign.create(toy.spec).close()
    with process(*words) as command:
        command.stdout.close()
        err = command.stderr.read()
        command.wait(60)
    assert err == ""
    assert command.returncode == 141


def test_a_second_run_at_the_same_time_is_refused(toy, matloop):
    toy.write(trials=4, sleep=1.0)
    with process("run", toy.spec) as run:
        for line in run.stdout:
            if "trial 0 started" in line:
                break
        status, _, err = matloop("run", toy.spec)
        assert status == 1
        assert "is being run by another matloop" in err
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode == 143


# On a terminal


def test_the_live_table(toy):
    from rich.console import Console

    from campaigns.cli_progress import Progress

    toy.write(trials=4)
    with Campaign.create(toy.spec, toy.db) as campaign:
        progress = Progress(campaign, 4)
        campaign.run(on_event=progress.take)
        assert progress.take({"kind": "proposing", "payload": {"n": 2}}) == ["proposing 2 trials"]
        screen = io.StringIO()
        Console(file=screen, force_terminal=True, width=100, height=40).print(progress)
    shown = screen.getvalue()
    assert shown.count("completed") == 4
    assert "hardness (GPa)" in shown
    assert "best: hardness" in shown
    assert "4 of 4 trials" in shown
    assert "proposing 2 trials" in shown


# Generators


@pytest.fixture
def generator_files(tmp_path):
    """The card of a generator that was never trained."""
    card = {
        "name": "tiny",
        "description": "Three crystals.",
        "kind": "crystals",
        "parent": None,
        "recipe": {"network": {"latent": 8}, "max_atoms": 20},
        **{key: [] for key in ("properties", "property_mean", "property_scale")},
        **{key: [] for key in ("elements", "atomic_volumes")},
        "weights_sha256": hashlib.sha256(b"").hexdigest(),
        "minutes": 1.5,
        "data": {
            "rows": 3,
            "held_out_rows": 1,
            "sources": [{"file": "a.csv", "licence": "CC-BY-4.0", "citation": "Doe 2026"}],
        },
        "metrics": {"held_out": {"match": 0.75}},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(card))
    (tmp_path / "tiny.safetensors").write_bytes(b"")
    return tmp_path / "tiny.safetensors"


class FakeGenerator:
    name, version = "tiny", "1"

    def sample(self, n, seed, conditions=None):
        return [None if i == 1 else f"design {seed}.{i}" for i in range(n)]

    def describe(self, design):
        return design

    def to_json(self, design):
        return {"cif": f"data_{design}\n"}


def test_show_reads_the_card(matloop, matloop_json, generator_files):
    status, out, _ = matloop("generators", "show", generator_files)
    assert status == 0
    for told in ("tiny, version ", "a.csv (CC-BY-4.0): Doe 2026", "match: 0.75"):
        assert told in out
    _, document = matloop_json("generators", "show", generator_files)
    assert document["data"]["dimensions"] == 8
    assert document["data"]["card"]["data"]["rows"] == 3
    generator_files.with_suffix(".json").write_text("{}")
    status, _, err = matloop("generators", "show", generator_files)
    assert status == 2
    assert "not the model card" in err


def test_list_tells_the_versions_that_are_loaded(matloop_json):
    from generators import generator_names, load_generator

    _, document = matloop_json("generators", "list")
    told = {g["name"]: g["version"] for g in document["data"]["generators"]}
    assert sorted(told) == generator_names()
    for name, version in told.items():
        assert load_generator(name).version == version


def test_list_and_show_load_no_torch():
    code = (
        "import sys; from campaigns.cli import main; main(['generators', 'list'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_sample_writes_cif_files(matloop, matloop_json, generator_files, monkeypatch):
    monkeypatch.setattr("campaigns.spec_environment.load_latent", lambda _: FakeGenerator())
    status, out, _ = matloop("generators", "sample", generator_files, "-n", 3, "--out", "drawn")
    assert status == 0
    assert "1 of 3 draws gave no valid design" in out
    assert Path("drawn/tiny-0-2.cif").read_text() == "data_design 0.2\n"
    _, document = matloop_json("generators", "sample", generator_files, "-n", 3, "--seed", 4)
    assert [d["name"] for d in document["data"]["designs"]] == ["design 4.0", "design 4.2"]


def test_train_calls_the_recipe_and_tells_of_each_epoch(
    matloop_json, matloop, generator_files, monkeypatch
):
    asked = {}

    def train(recipe, data, out, device, on_epoch, note):
        asked.update(recipe=recipe, data=data, device=device)
        on_epoch(1, {"loss": 2.0})
        for suffix in (".json", ".safetensors"):
            out.with_suffix(suffix).write_bytes(generator_files.with_suffix(suffix).read_bytes())
        return out

    monkeypatch.setattr("generators.training.train_generator", train)
    words = ["generators", "train", "crystals", "--data", "data", "--out"]
    status, out, err = matloop(*words, "new.safetensors", "--json")
    assert status == 0
    assert json.loads(out)["data"]["weights"] == "new.safetensors"
    assert "epoch 1: loss 2" in err
    assert asked == {"recipe": "crystals", "data": Path("data"), "device": "cpu"}
    for wrong in ("new.pt", "no/where.safetensors"):
        assert matloop(*words, wrong)[0] == 2


def test_what_cannot_be_trained_is_told_before_data_are_read(matloop):
    words = ["generators", "train", "crystals", "--data", "nowhere", "--out", "x.safetensors"]
    status, _, err = matloop(*words, "--device", "cudda")
    assert status == 2
    assert "there is no device 'cudda' here" in err
    for command in (words, ["generators", "fit-prior", "crystals", *words[3:]]):
        Path("x.json").write_text("{}")
        status, _, err = matloop(*command)
        assert status == 2
        assert "there is a generator already" in err
        assert Path("x.json").read_text() == "{}"


def test_train_without_its_data_is_one_clear_error(matloop):
    words = ["generators", "train", "crystals", "--data", "nowhere", "--out", "x.safetensors"]
    status, _, err = matloop(*words)
    assert status == 2
    assert "absent" in err


@pytest.fixture
def cif_folder(tmp_path):
    """Two rock salts, a text, half a crystal, and a crystal of too many atoms."""
    from pymatgen.core import Lattice, Structure

    folder = tmp_path / "cifs"
    (folder / "deeper").mkdir(parents=True)
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    salt.to(filename=str(folder / "a.cif"), fmt="cif")
    salt.copy().scale_lattice(80).to(filename=str(folder / "deeper" / "b.cif"), fmt="cif")
    (folder / "broken.cif").write_text("data_x\n_cell_length_a four\n")
    half = Structure(salt.lattice, [{"Mg": 0.5}] * 8, salt.frac_coords)
    half.to(filename=str(folder / "half.cif"), fmt="cif")
    (salt * (4, 4, 4)).to(filename=str(folder / "large.cif"), fmt="cif")
    (folder / "notes.txt").write_text("no crystal")
    return folder


def test_evaluate_measures_a_folder_of_anybodys_cifs(matloop, matloop_json, cif_folder):
    words = ["generators", "evaluate", cif_folder, "--only", "validity,novelty,coverage,review"]
    status, out, err = matloop(*words, "--constraint", "density > 3.5")
    assert status == 0, err
    for told in ("composition_valid", "100.0 %", "CDVAE 86.7", "broken.cif", "half.cif",
                 "3 crystals could not be used", "coverage was not measured",
                 "samples with density > 3.5"):  # fmt: skip
        assert told in out
    _, document = matloop_json(*words)
    assert document["data"]["crystals"] == 2
    assert document["data"]["figures"]["unique"]["value"] == 0.5
    assert len(document["data"]["problems"]) == 3


def test_evaluate_names_the_file_whose_numbers_are_none(matloop, cif_folder):
    text = (cif_folder / "a.cif").read_text()
    (cif_folder / "cell.cif").write_text(text.replace("4.20000000", "nan", 1))
    (cif_folder / "site.cif").write_text(text.replace("0.00000000", "nan", 1))
    status, out, err = matloop("generators", "evaluate", cif_folder, "--only", "novelty")
    assert status == 0, err
    for file in ("cell.cif", "site.cif"):
        assert file in out
    assert "5 crystals could not be used" in out


def test_evaluate_shows_a_generator_beside_the_published(matloop_json, cif_folder):
    import zipfile

    data = cif_folder / "data.zip"
    with zipfile.ZipFile(data, "w") as archive:
        for file in ("a.cif", "broken.cif"):
            archive.write(cif_folder / file, file)
    _, document = matloop_json(
        "generators", "evaluate", "crystals", "--data", data, "--samples", 5, "--only",
        "reconstruction,validity", "--workers", 1,
    )  # fmt: skip
    found = document["data"]
    assert found["figures"]["match_rate"]["value"] == 1.0
    assert {p["model"] for p in found["figures"]["match_rate"]["published"]} == {"FTCP", "CDVAE"}
    assert len(found["problems"]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["crystals", "--only", "beauty"], "there is no metric 'beauty'"),
        (["crystals", "--set", "mp21"], "there is no data set 'mp21'"),
        (["crystals", "--constraint", "good"], "is no constraint"),
        (["crystals", "--held-out"], "--held-out needs"),
        (["crystals", "--data", "absent.csv"], "No such file"),
        (["empty"], "there is no .cif file"),
    ],
)
def test_evaluate_refuses_before_it_measures(matloop, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    status, _, err = matloop("generators", "evaluate", *words)
    assert status == 2
    assert told in err


@pytest.mark.slow
def test_a_generator_is_tuned_on_a_table(matloop, matloop_json, tmp_path):
    from generators import load_generator

    parent = load_generator("perovskites")
    designs = [d for d in parent.sample(12, seed=1) if d is not None]
    with Path("found.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["cif", "density (g/cm^3)", "luck"])
        rows.writerow(["absent.cif", 1.0, 1.0])
        for i, design in enumerate(designs):
            rows.writerow([parent.to_json(design)["cif"], float(design.density), (7 * i) % 11])
    words = ["generators", "tune", "perovskites", "--results", "found.csv", "--out"]
    status, _, err = matloop(*words, "no.safetensors", "--seek", "maximize luck")
    assert status == 1
    assert "tell nothing yet" in err
    assert "nothing was written" in err
    assert [p.name for p in tmp_path.iterdir()] == ["found.csv"]  # no job that would fail again
    for seek, said in (("maximize gloss", "no column 'gloss'"), ("more luck", "--seek")):
        status, _, err = matloop(*words, "no.safetensors", "--seek", seek)
        assert status != 0
        assert said in err
    options = ["mine.safetensors", "--seek", "maximize density", "--method", "full", "--steps", 2]
    status, document = matloop_json(*words, *options)
    assert status == 0, document
    assert document["data"]["parent"] == parent.version
    assert len(document["data"]["refused"]) == 1
    assert load_generator(Path("mine.safetensors")).parent == parent.version
    assert {p.name for p in tmp_path.iterdir()} == {
        "found.csv", "mine.safetensors", "mine.json",
    }  # fmt: skip


# Doctor


def test_doctor_fails_where_something_is_broken(matloop, matloop_json, monkeypatch):
    checks = [
        Check("torch", "ok", "2.13"),
        Check("database", "broken", "no room", "make room"),
        Check("psycopg", "absent", "not installed"),
    ]
    monkeypatch.setattr("campaigns.cli_doctor._checks", lambda _db: iter(checks))
    status, out, _ = matloop("doctor")
    assert status == 1
    assert "BROKEN  database: no room (make room)" in out
    assert "broken: database" in out
    status, out, _ = matloop("doctor", "--json")
    document = json.loads(out)
    assert status == 1
    assert document["data"]["healthy"] is False
    assert [c["verdict"] for c in document["data"]["checks"]] == ["ok", "broken", "absent"]


@pytest.mark.slow
def test_doctor_uses_what_is_here(toy):
    toy.write(lab=True)
    Campaign.create(toy.spec).close()
    began = time.monotonic()
    with process("doctor", "--json") as command:
        out, err = command.communicate(timeout=300)
    document = json.loads(out)
    checks = {check["name"]: check for check in document["data"]["checks"]}
    broken = {name for name, check in checks.items() if check["verdict"] == "broken"}
    assert broken <= {"generators"}, err
    assert "as it should" in checks["potential chgnet"]["told"]
    assert "1 campaign" in checks["database"]["told"]
    assert "torch 2.13" in checks["packages"]["told"]
    assert time.monotonic() - began < 300
